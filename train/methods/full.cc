// Full fine-tuning, to compare with: every number of the model is trained in F32, and a whole model is saved.
#include <filesystem>

#include "base/file.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

class Full : public Method {
 public:
  using Method::Method;

  Status Initialize(const Context& /*ctx*/, uint64_t /*seed*/) override {
    RETURN_IF_ERROR(ChooseTargets({}));
    own_ = model_.TrainableCopy();
    Add(0, Slot::kEmbedding, own_->embedding().trained);
    if (!own_->config().tied_embeddings) Add(0, Slot::kOutput, own_->output().trained);
    Add(0, Slot::kOutputNorm, own_->output_norm());
    for (int64_t i = 0; i < own_->config().n_layers; ++i) {
      const Layer& layer = own_->layers()[static_cast<size_t>(i)];
      for (const Slot slot : AllLinearSlots()) {
        Add(i, slot, layer.weight(slot).trained);
        Add(i, BiasOf(slot), layer.bias[static_cast<size_t>(slot)]);
      }
      for (int n = 0; n < kNumNormSlots; ++n) Add(i, NormSlot(n), layer.norms[static_cast<size_t>(n)]);
    }
    return {};
  }

  const Model& model() const override { return *own_; }
  std::string SavedPath(const std::string& directory) const override {
    return is_gguf() ? directory + "/model.gguf" : directory;
  }
  Status Save(const std::string& directory) const override {
    std::error_code ec;
    std::filesystem::create_directories(directory, ec);
    if (ec) return MakeError(ErrorCode::kIo, "{}: cannot create the folder: {}", directory, ec.message());
    return is_gguf() ? SaveGguf(SavedPath(directory)) : SaveHf(directory);
  }
  Status Load(const std::string& directory) override {
    ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(SavedPath(directory)));
    return Fill(directory, parameters(), file.tensors());
  }

 protected:
  Json Config() const override { return {}; }

 private:
  bool is_gguf() const { return model_.file().gguf.has_value(); }

  void Add(int64_t layer, Slot slot, const Tensor& value) {
    if (!value) return;
    const TensorRow& row = *FindRow(*model_.config().arch, slot);
    const bool is_matrix = value.rows() > 1;
    AddParameter({.name = LayerName(is_gguf() ? row.gguf : row.hf, layer),
                  .shape = is_matrix ? std::vector{value.rows(), value.cols()} : std::vector{value.size()},
                  .value = value,
                  .offset = is_gguf() ? 0 : HfNormOffset(*model_.config().arch, slot)});
  }

  // The base's tensors with the trained ones in their places, kept alive by `values`.
  TensorTable Tensors(std::vector<std::vector<float>>& values) const {
    TensorTable table;
    for (TensorInfo info : model_.file().tensors()) {
      // A copy of tied embeddings would be of the old ones.
      if (model_.config().tied_embeddings && info.name == "lm_head.weight") continue;
      for (const Parameter& p : parameters()) {
        if (p.name != info.name) continue;
        auto& out = values.emplace_back(FileValues(p));
        info.type = WeightType::kF32;
        info.bytes = {reinterpret_cast<const uint8_t*>(out.data()), out.size() * sizeof(float)};
      }
      table.Add(std::move(info));
    }
    return table;
  }

  Status SaveGguf(const std::string& path) const {
    std::vector<std::vector<float>> values;
    const TensorTable table = Tensors(values);
    std::vector<TensorDeclaration> declarations;
    for (const TensorInfo& t : table) declarations.push_back({t.name, t.type, t.shape});
    Metadata metadata = model_.file().gguf->metadata;
    metadata.Set("general.file_type", {uint32_t{0}});
    ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, metadata, declarations));
    for (const TensorInfo& t : table) RETURN_IF_ERROR(writer.Write(t.bytes));
    return writer.Finish();
  }

  Status SaveHf(const std::string& directory) const {
    const HfDirectory& hf = *model_.file().hf;
    const auto write = [&](const char* name, const std::optional<Json>& json) -> Status {
      return json ? WriteFileAtomically(directory + "/" + name, DumpJson(*json, 2) + "\n") : Status();
    };
    Json config = hf.config;
    config.erase("quantization_config");
    config.erase("torch_dtype");
    config["dtype"] = "float32";
    std::vector<std::vector<float>> values;
    RETURN_IF_ERROR(WriteSafetensors(directory + "/model.safetensors", Tensors(values)));
    RETURN_IF_ERROR(write("tokenizer.json", hf.tokenizer));
    RETURN_IF_ERROR(write("tokenizer_config.json", hf.tokenizer_config));
    RETURN_IF_ERROR(write("generation_config.json", hf.generation_config));
    if (hf.chat_template) {
      RETURN_IF_ERROR(WriteFileAtomically(directory + "/chat_template.jinja", *hf.chat_template));
    }
    return write("config.json", config);
  }

  std::unique_ptr<Model> own_;
};

}  // namespace

std::unique_ptr<Method> MakeFull(const Model& model, const PeftOptions& options) {
  return std::make_unique<Full>(model, options);
}

}  // namespace thimble

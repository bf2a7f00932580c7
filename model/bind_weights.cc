// The one place where formats meet math: tensors of a file become the weights of a model.
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "codec/codec.h"
#include "model/model.h"

namespace thimble {

class WeightBinder {
 public:
  WeightBinder(Model& model) : model_(model), config_(model.config_), gguf_(model.file_.gguf.has_value()) {}

  Status Bind() {
    const auto& c = config_;
    const int64_t q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
    RETURN_IF_ERROR(BindMatrix(Slot::kEmbedding, 0, c.vocab_size, c.d_model, model_.embedding_));
    RETURN_IF_ERROR(BindVector(Slot::kOutputNorm, 0, c.d_model, model_.output_norm_));
    if (c.tied_embeddings) {
      model_.output_ = model_.embedding_;
    } else {
      RETURN_IF_ERROR(BindMatrix(Slot::kOutput, 0, c.vocab_size, c.d_model, model_.output_));
    }
    model_.layers_.resize(static_cast<size_t>(c.n_layers));
    for (int64_t i = 0; i < c.n_layers; ++i) {
      Layer& layer = model_.layers_[i];
      RETURN_IF_ERROR(BindLinear(Slot::kQ, i, q_dim, c.d_model, layer));
      RETURN_IF_ERROR(BindLinear(Slot::kK, i, kv_dim, c.d_model, layer));
      RETURN_IF_ERROR(BindLinear(Slot::kV, i, kv_dim, c.d_model, layer));
      RETURN_IF_ERROR(BindLinear(Slot::kO, i, c.d_model, q_dim, layer));
      RETURN_IF_ERROR(BindLinear(Slot::kGate, i, c.d_ff, c.d_model, layer));
      RETURN_IF_ERROR(BindLinear(Slot::kUp, i, c.d_ff, c.d_model, layer));
      RETURN_IF_ERROR(BindLinear(Slot::kDown, i, c.d_model, c.d_ff, layer));
      for (int n = 0; n < kNumNormSlots; ++n) {
        const Slot slot = NormSlot(n);
        const bool of_heads = slot == Slot::kQNorm || slot == Slot::kKNorm;
        RETURN_IF_ERROR(BindVector(slot, i, of_heads ? c.head_dim : c.d_model, layer.norms[n]));
      }
    }
    return CheckAllUsed();
  }

 private:
  // nullptr with no error: an optional tensor that is absent, or a slot that the architecture lacks.
  Result<const TensorInfo*> Find(const TensorRow* row, int64_t layer, std::span<const int64_t> shape) {
    const char* pattern = row == nullptr ? nullptr : gguf_ ? row->gguf : row->hf;
    if (pattern == nullptr) return nullptr;
    const std::string name = LayerName(pattern, layer);
    const TensorInfo* tensor = model_.file_.tensors().Find(name);
    if (tensor == nullptr) {
      if (row->optional) return nullptr;
      return MakeError(ErrorCode::kNotFound, "{}: tensor '{}' is missing", model_.file_.path, name);
    }
    if (!std::equal(tensor->shape.begin(), tensor->shape.end(), shape.begin(), shape.end())) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has shape [{}], expected [{}]",
                       model_.file_.path, name, fmt::join(tensor->shape, ", "), fmt::join(shape, ", "));
    }
    if (!Info(tensor->type).decodable) {
      return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}, which cannot be computed with",
                       model_.file_.path, name, Name(tensor->type));
    }
    used_.insert(tensor);
    return tensor;
  }

  // A tensor without a place is a mechanism that this model has and we do not: its numbers would be wrong.
  Status CheckAllUsed() const {
    for (const TensorInfo& tensor : model_.file_.tensors()) {
      const bool known = used_.contains(&tensor) || tensor.name == "rope_freqs.weight" ||
                         tensor.name == "lm_head.weight" ||              // a copy of tied embeddings
                         tensor.name.ends_with(".rotary_emb.inv_freq");  // old checkpoints' derived constants
      if (!known) {
        return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has no place in a {} model of {} layers",
                         model_.file_.path, tensor.name, config_.arch->gguf_arch, config_.n_layers);
      }
    }
    return {};
  }

  // The mapped file that holds the bytes.
  std::shared_ptr<const MappedFile> FileOf(std::span<const uint8_t> bytes) const {
    const auto holds = [&](const std::shared_ptr<const MappedFile>& file) {
      const auto all = file->bytes();
      return bytes.data() >= all.data() && bytes.data() + bytes.size() <= all.data() + all.size();
    };
    if (gguf_) return holds(model_.file_.gguf->file) ? model_.file_.gguf->file : nullptr;
    const auto& files = model_.file_.hf->weights.files;
    const auto file = std::find_if(files.begin(), files.end(), holds);
    return file != files.end() ? *file : nullptr;
  }

  Status BindVector(Slot slot, int64_t layer, int64_t n, Tensor& out) {
    const TensorRow* row = FindRow(*config_.arch, slot);
    ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(row, layer, std::array{n}));
    if (tensor == nullptr) return {};
    out = Tensor::Empty(1, n);
    DecodeRow(tensor->type, tensor->bytes.data(), out.data(), n);
    for (float& w : std::span(out.data(), static_cast<size_t>(n))) {
      if (!std::isfinite(w)) {
        return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' holds a value that is not finite",
                         model_.file_.path, tensor->name);
      }
      if (!gguf_ && row->transform == GgufTransform::kPlusOne) w += 1;
    }
    return {};
  }

  Status BindMatrix(Slot slot, int64_t layer, int64_t n_out, int64_t n_in, Weight& out) {
    const TensorRow* row = FindRow(*config_.arch, slot);
    ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(row, layer, std::array{n_out, n_in}));
    if (tensor == nullptr) {
      return MakeError(ErrorCode::kNotFound, "{}: tensor '{}' is missing", model_.file_.path,
                       LayerName(gguf_ ? row->gguf : row->hf, layer));
    }
    out = Weight{.name = tensor->name,
                 .type = tensor->type,
                 .n_out = n_out,
                 .n_in = n_in,
                 .data = tensor->bytes.data()};
    // F32 rows are read in place, so they must be aligned; a safetensors file need not align them.
    if (tensor->type == WeightType::kF32 && reinterpret_cast<uintptr_t>(out.data) % alignof(float) != 0) {
      auto& copy = model_.owned_.emplace_back(static_cast<size_t>(n_out * n_in));
      std::memcpy(copy.data(), out.data, tensor->bytes.size());
      out.data = reinterpret_cast<const uint8_t*>(copy.data());
    }
    out.packed = std::make_shared<PackedWeight>(arena_, FileOf({out.data, tensor->bytes.size()}));
    return {};
  }

  Status BindLinear(Slot slot, int64_t layer, int64_t n_out, int64_t n_in, Layer& out) {
    const size_t i = static_cast<size_t>(slot);
    RETURN_IF_ERROR(BindMatrix(slot, layer, n_out, n_in, out.linear[i]));
    RETURN_IF_ERROR(BindVector(BiasOf(slot), layer, n_out, out.bias[i]));
    if (out.bias[i]) out.linear[i].bias = out.bias[i].data();
    return {};
  }

  Model& model_;
  const ModelConfig& config_;
  const bool gguf_;
  const std::shared_ptr<Arena> arena_ = std::make_shared<Arena>();
  std::unordered_set<const TensorInfo*> used_;
};

Result<std::unique_ptr<Model>> Model::Bind(ModelFile file) {
  std::unique_ptr<Model> model(new Model);
  model->file_ = std::move(file);
  if (model->file_.gguf) {
    ASSIGN_OR_RETURN(model->config_, ModelConfigFromGguf(*model->file_.gguf));
  } else {
    RETURN_IF_ERROR(UnpackMatrices(*model->file_.hf));
    ASSIGN_OR_RETURN(model->config_, ModelConfigFromHf(*model->file_.hf));
  }
  for (const bool local : {false, true}) {
    model->rope_frequencies_[local ? 1 : 0] = model->config_.RopeFrequencies(local);
  }
  RETURN_IF_ERROR(WeightBinder(*model).Bind());
  return model;
}

std::unique_ptr<Model> Model::TrainableCopy() const {
  std::unique_ptr<Model> copy(new Model(*this));
  const auto copied = [](const Tensor& vector) {
    if (!vector) return vector;
    const Tensor out = Tensor::Empty(1, vector.size());
    std::copy_n(vector.data(), vector.size(), out.data());
    return out;
  };
  const auto decoded = [](const Weight& w, const Tensor& bias) {
    const Tensor values = Tensor::Empty(w.n_out, w.n_in);
    for (int64_t i = 0; i < w.n_out; ++i) DecodeRow(w.type, w.row(i), values.row(i), w.n_in);
    return TrainedWeight(w.name, values, bias);
  };
  copy->embedding_ = decoded(embedding_, {});
  copy->output_ = config_.tied_embeddings ? copy->embedding_ : decoded(output_, {});
  copy->output_norm_ = copied(output_norm_);
  for (Layer& layer : copy->layers_) {
    for (Tensor& norm : layer.norms) norm = copied(norm);
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      layer.bias[s] = copied(layer.bias[s]);
      layer.linear[s] = decoded(layer.linear[s], layer.bias[s]);
    }
  }
  copy->owned_.clear();
  return copy;
}

Result<std::unique_ptr<Model>> Model::Load(const std::string& path) {
  ASSIGN_OR_RETURN(ModelFile file, OpenModelFile(path));
  return Bind(std::move(file));
}

}  // namespace thimble

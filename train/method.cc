#include "train/method.h"

#include <algorithm>
#include <cstring>

#include "formats/peft_adapter.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

constexpr MethodRow kMethods[] = {
    {"lora", "two matrices of a low rank beside each linear layer (Hu et al. 2021)",
     MethodRow::kRank | MethodRow::kLora | MethodRow::kStart, MakeLora},
    {"dora", "LoRA with the length of each row of weights trained apart (Liu et al. 2024)",
     MethodRow::kRank | MethodRow::kLora, MakeDora},
    {"vera", "two vectors between random matrices that all layers share (Kopiczko et al. 2024)",
     MethodRow::kRank, MakeVera},
    {"ia3", "a factor for each key, value and hidden activation (Liu et al. 2022)", MethodRow::kNothing,
     MakeIa3},
    {"bottleneck", "a small network after each half of a layer (Houlsby et al. 2019)", MethodRow::kBottleneck,
     MakeBottleneck},
    {"bitfit", "a bias for each linear layer (Ben Zaken et al. 2022)", MethodRow::kNothing, MakeBitfit},
    {"norm-tuning", "the norms' weights (Qi et al. 2022)", MethodRow::kNothing, MakeNormTuning},
    {"prompt-tuning", "embeddings before the text (Lester et al. 2021)", MethodRow::kVirtualTokens,
     MakePromptTuning},
    {"prefix-tuning", "keys and values before the text, in every layer (Li & Liang 2021)",
     MethodRow::kVirtualTokens, MakePrefixTuning},
    {"full", "every number of the model, in F32: what the others are compared with", MethodRow::kNothing,
     MakeFull},
};

}  // namespace

std::span<const MethodRow> Methods() {
  return kMethods;
}

const MethodRow* FindMethod(std::string_view name) {
  const auto row = std::ranges::find(kMethods, name, &MethodRow::name);
  return row == std::end(kMethods) ? nullptr : row;
}

std::optional<LoraStart> ParseLoraStart(std::string_view name) {
  if (name == "default") return LoraStart::kZero;
  if (name == "pissa") return LoraStart::kPissa;
  if (name == "loftq") return LoraStart::kResidual;
  return std::nullopt;
}

Result<std::unique_ptr<Method>> CreateMethod(const Context& ctx, const Model& model,
                                             const PeftOptions& options, uint64_t seed) {
  const MethodRow* row = FindMethod(options.method);
  if (row == nullptr) {
    std::vector<std::string_view> names;
    for (const MethodRow& known : kMethods) names.push_back(known.name);
    return MakeError(ErrorCode::kInvalidArgument, "method '{}' is not one of {}", options.method,
                     fmt::join(names, ", "));
  }
  auto method = row->make(model, options);
  RETURN_IF_ERROR(method->Initialize(ctx, seed));
  return method;
}

Method::Method(const Model& model, const PeftOptions& options) : model_(model), options_(options) {
  adapter_.name = options.method;
  adapter_.layers.resize(model.layers().size());
}

int64_t Method::n_parameters() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.value.size();
  return n;
}

std::string Method::ModuleName(int64_t layer, Slot slot) const {
  return PeftModuleName(*model_.config().arch, slot, layer);
}

const Weight& Method::weight(int64_t layer, Slot slot) const {
  return model_.layers()[static_cast<size_t>(layer)].weight(slot);
}

AdapterModule& Method::module(int64_t layer, Slot slot) {
  return adapter_.layers[static_cast<size_t>(layer)][static_cast<size_t>(slot)];
}

Status Method::ChooseTargets(std::span<const Slot> usual) {
  std::vector<std::string> known{"all-linear"};
  const auto& names = options_.target_modules;
  if (usual.empty() && !names.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "{} has no target modules", options_.method);
  }
  const bool all = std::ranges::count(names, known[0]) > 0;
  for (int s = 0; s < kNumLinearSlots; ++s) {
    const Slot slot = static_cast<Slot>(s);
    known.push_back(ShortModuleName(*model_.config().arch, slot));
    const bool wanted =
        names.empty() ? std::ranges::count(usual, slot) > 0 : std::ranges::count(names, known.back()) > 0;
    if (wanted || all) targets_.push_back(slot);
  }
  for (const std::string& name : names) {
    if (std::ranges::count(known, name) == 0) {
      return MakeError(ErrorCode::kInvalidArgument, "target module '{}' is not one of {}", name,
                       fmt::join(known, ", "));
    }
  }
  return {};
}

std::vector<Slot> Method::AllLinearSlots() {
  std::vector<Slot> all;
  for (int s = 0; s < kNumLinearSlots; ++s) all.push_back(static_cast<Slot>(s));
  return all;
}

std::vector<std::string> Method::TargetNames() const {
  std::vector<std::string> names;
  for (const Slot slot : targets_) names.push_back(ShortModuleName(*model_.config().arch, slot));
  return names;
}

Tensor Method::Uniform(int64_t rows, int64_t cols, double bound, Random& random) {
  Tensor t = Tensor::Empty(rows, cols);
  for (int64_t i = 0; i < t.size(); ++i) {
    t.data()[i] = static_cast<float>((2 * random.Uniform() - 1) * bound);
  }
  return t;
}

void Method::AddParameter(Parameter parameter) {
  parameter.value.set_requires_grad(true);
  parameters_.push_back(std::move(parameter));
}

std::vector<float> Method::FileValues(const Parameter& p) {
  std::vector<float> out(p.value.data(), p.value.data() + p.value.size());
  const int64_t width = p.value.size() / p.n_rows;
  for (int64_t i = 0; p.order && i < p.n_rows; ++i) {
    std::copy_n(p.value.data() + p.order(i) * width, width, out.data() + i * width);
  }
  for (float& number : out) number -= p.offset;
  return out;
}

Status Method::Fill(const std::string& source, std::span<const Parameter> parameters,
                    const TensorTable& tensors) {
  for (const Parameter& p : parameters) {
    const TensorInfo* info = tensors.Find(p.name);
    if (info == nullptr || info->shape != p.shape || info->type != WeightType::kF32) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: has other modules or ranks: '{}' is not there in F32 as [{}]", source, p.name,
                       fmt::join(p.shape, ", "));
    }
    const size_t row_bytes = info->bytes.size() / static_cast<size_t>(p.n_rows);
    const int64_t width = p.value.size() / p.n_rows;
    for (int64_t i = 0; i < p.n_rows; ++i) {
      std::memcpy(p.value.data() + (p.order ? p.order(i) : i) * width,
                  info->bytes.data() + static_cast<size_t>(i) * row_bytes, row_bytes);
    }
    for (int64_t i = 0; i < p.value.size(); ++i) p.value.data()[i] += p.offset;
  }
  return {};
}

Status Method::Save(const std::string& directory) const {
  std::vector<std::vector<float>> values;
  TensorTable table;
  for (const Parameter& p : Saved()) {
    const auto& out = values.emplace_back(FileValues(p));
    const auto* bytes = reinterpret_cast<const uint8_t*>(out.data());
    table.Add({p.name, WeightType::kF32, p.shape, {bytes, out.size() * sizeof(float)}});
  }
  Json config = Config();
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = model_.file().path;
  config["inference_mode"] = true;
  return WritePeftAdapter(directory, config, table, notes_);
}

Status Method::Load(const std::string& directory) {
  return ReadFolder(directory, Saved());
}

Status Method::ReadFolder(const std::string& directory, std::span<const Parameter> parameters) {
  ASSIGN_OR_RETURN(const PeftAdapter file, ReadPeftAdapter(directory));
  if (file.weights.tensors.size() != parameters.size()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: has other modules or ranks", directory);
  }
  return Fill(directory, parameters, file.weights.tensors);
}

}  // namespace thimble

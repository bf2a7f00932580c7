// Adapters of a PEFT folder.
#include <cmath>
#include <cstring>

#include "codec/codec.h"
#include "kernels/kernels.h"
#include "model/adapter_parts.h"

namespace thimble {
namespace {

// A vector as a matrix of one row.
TensorInfo AsRow(TensorInfo info) {
  if (info.shape.size() == 1) info.shape.insert(info.shape.begin(), 1);
  return info;
}

// A column of numbers, one for each of the layer's outputs, in the model's row order: [1, n_out].
Result<Tensor> DecodeOutputs(const std::string& path, TensorInfo info, const AdapterTarget& target,
                             const Model& model) {
  const int64_t n_out = model.layers()[target.layer].weight(target.slot).n_out;
  if (info.shape.size() == 1) info.shape.push_back(1);
  ASSIGN_OR_RETURN(const Tensor column, DecodeTensor(path, info, n_out, 1));
  const Tensor ordered =
      ReorderRows(column, OutputOrder(model.config(), target.slot, false, model.file().gguf.has_value()));
  Tensor row = Tensor::Empty(1, n_out);
  std::copy_n(ordered.data(), n_out, row.data());
  return row;
}

// Each row's magnitude over the length that W + scale B A has there.
void ApplyMagnitude(const Weight& w, const Tensor& magnitude, AdapterModule& module) {
  std::vector<float> row(static_cast<size_t>(w.n_in));
  module.out_scale = Tensor::Empty(1, w.n_out);
  for (int64_t i = 0; i < w.n_out; ++i) {
    DecodeRow(w.type, w.row(i), row.data(), w.n_in);
    for (int64_t r = 0; r < module.a.rows(); ++r) {
      Kernels().axpy(module.scale * module.b.row(i)[r], module.a.row(r), row.data(), w.n_in);
    }
    const float factor = magnitude.data()[i] / std::sqrt(Kernels().dot(row.data(), row.data(), w.n_in));
    module.out_scale.data()[i] = factor;
    for (int64_t r = 0; r < module.a.rows(); ++r) module.b.row(i)[r] *= factor;
  }
}

// The layer's tensors of a PEFT folder, by what PEFT calls them.
class PeftLoader {
 public:
  PeftLoader(const std::string& path, const Model& model) : path_(path), model_(model) {}

  Result<Adapter> Load() {
    ASSIGN_OR_RETURN(file_, ReadPeftAdapter(path_));
    const PeftLoraConfig& lora = file_.lora;
    const auto is = [&](const char* type) { return file_.peft_type == type; };
    constexpr const char* kKnown[] = {"IA3",        "LORA",          "VERA",          "BITFIT",
                                      "BOTTLENECK", "PROMPT_TUNING", "PREFIX_TUNING", "LN_TUNING"};
    if (std::ranges::none_of(kKnown, is) || lora.bias != "none" || lora.fan_in_fan_out) {
      return MakeError(ErrorCode::kUnsupported,
                       "{}: peft_type {} with bias {} and fan_in_fan_out {} is not supported; known are "
                       "{}",
                       path_, file_.peft_type, lora.bias, lora.fan_in_fan_out, fmt::join(kKnown, ", "));
    }
    adapter_.name = path_;
    adapter_.notes = file_.notes;
    adapter_.layers.resize(model_.layers().size());
    if (is("PROMPT_TUNING") || is("PREFIX_TUNING")) {
      RETURN_IF_ERROR(PlaceVirtualTokens());
      return std::move(adapter_);
    }
    if (is("LN_TUNING")) {
      RETURN_IF_ERROR(PlaceNorms());
      return std::move(adapter_);
    }
    const auto targets = AdapterTargets(model_.config(), false);
    for (const TensorInfo& info : file_.weights.tensors) {
      if (is("VERA") && info.name.starts_with("base_model.vera_")) continue;
      std::string module = info.name, part;
      for (const auto& [suffix, type] : kParts) {
        if (!is(type) || !module.ends_with(suffix)) continue;
        part = suffix;
        module.resize(module.size() - part.size());
        break;
      }
      if (module.starts_with(kPeftPrefix)) module.erase(0, std::strlen(kPeftPrefix));
      const auto target = targets.find(module);
      if (part.empty() || target == targets.end() || (part == ".lora_magnitude_vector" && !lora.use_dora)) {
        return MakeError(ErrorCode::kUnsupported,
                         "{}: tensor '{}' is not the {} of a linear layer of this model", path_, info.name,
                         is("LORA") ? "LoRA" : file_.peft_type);
      }
      RETURN_IF_ERROR(PlacePart(info, part, module, target->second));
    }
    if (is("VERA")) RETURN_IF_ERROR(PlaceVeraMatrices());
    RETURN_IF_ERROR(CheckComplete(path_, model_, adapter_));
    if (lora.use_dora) RETURN_IF_ERROR(ApplyMagnitudes());
    return std::move(adapter_);
  }

 private:
  // How tensors end, by the method that has them.
  static constexpr std::pair<const char*, const char*> kParts[] = {{".lora_A.weight", "LORA"},
                                                                   {".lora_B.weight", "LORA"},
                                                                   {".lora_magnitude_vector", "LORA"},
                                                                   {".ia3_l", "IA3"},
                                                                   {".vera_lambda_d", "VERA"},
                                                                   {".vera_lambda_b", "VERA"},
                                                                   {".bias", "BITFIT"},
                                                                   {".adapter_down.weight", "BOTTLENECK"},
                                                                   {".adapter_down.bias", "BOTTLENECK"},
                                                                   {".adapter_up.weight", "BOTTLENECK"},
                                                                   {".adapter_up.bias", "BOTTLENECK"}};

  AdapterModule& ModuleOf(const AdapterTarget& target) {
    return adapter_.layers[static_cast<size_t>(target.layer)][static_cast<size_t>(target.slot)];
  }

  Status PlacePart(const TensorInfo& info, const std::string& part, const std::string& name,
                   const AdapterTarget& target) {
    AdapterModule& module = ModuleOf(target);
    if (part == ".ia3_l") {
      const int64_t n_in = model_.layers()[target.layer].weight(target.slot).n_in;
      module.scales_bias = true;
      if (info.shape == std::vector<int64_t>{1, n_in}) {  // one of feedforward_modules
        ASSIGN_OR_RETURN(module.in_scale, DecodeTensor(path_, info, 1, n_in));
      } else {
        ASSIGN_OR_RETURN(module.out_scale, DecodeOutputs(path_, info, target, model_));
      }
      return {};
    }
    if (part == ".lora_magnitude_vector") {
      ASSIGN_OR_RETURN(Tensor magnitude, DecodeOutputs(path_, info, target, model_));
      magnitudes_.emplace_back(target, std::move(magnitude));
      return {};
    }
    if (part == ".vera_lambda_d") {
      const TensorInfo row = AsRow(info);
      if (row.shape.size() != 2)
        return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' is no vector", path_, info.name);
      ASSIGN_OR_RETURN(module.rank_scale, DecodeTensor(path_, row, 1, row.shape[1]));
      return {};
    }
    if (part == ".vera_lambda_b") {
      ASSIGN_OR_RETURN(module.delta_scale, DecodeOutputs(path_, info, target, model_));
      return {};
    }
    if (part == ".bias") {
      ASSIGN_OR_RETURN(module.bias, DecodeOutputs(path_, info, target, model_));
      return {};
    }
    if (part.starts_with(".adapter_")) return PlaceBottleneck(info, part, target);
    module.scale = static_cast<float>(file_.lora.Scale(name));
    return PlaceLora(path_, info, part == ".lora_A.weight", target, model_, false, adapter_);
  }

  // Only after layers whose outputs are never reordered.
  Status PlaceBottleneck(const TensorInfo& info, const std::string& part, const AdapterTarget& target) {
    if (target.slot != Slot::kO && target.slot != Slot::kDown) {
      return MakeError(ErrorCode::kUnsupported,
                       "{}: tensor '{}': bottleneck adapters stand after {} and {} only", path_, info.name,
                       ShortModuleName(*model_.config().arch, Slot::kO),
                       ShortModuleName(*model_.config().arch, Slot::kDown));
    }
    const TensorInfo matrix = AsRow(info);
    if (matrix.shape.size() != 2) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' is no matrix", path_, info.name);
    }
    AdapterModule& m = ModuleOf(target);
    const int64_t n = model_.layers()[target.layer].weight(target.slot).n_out;
    const bool is_down = part == ".adapter_down.weight", is_up = part == ".adapter_up.weight",
               is_up_bias = part == ".adapter_up.bias";
    Tensor& to = is_down ? m.down : is_up ? m.up : is_up_bias ? m.up_bias : m.down_bias;
    ASSIGN_OR_RETURN(to, DecodeTensor(path_, matrix, is_up ? n : matrix.shape[0],
                                      is_down || is_up_bias ? n : matrix.shape[1]));
    return {};
  }

  Status PlaceVeraMatrices() {
    const TensorInfo *a = file_.weights.tensors.Find("base_model.vera_A"),
                     *b = file_.weights.tensors.Find("base_model.vera_B");
    if (a == nullptr || b == nullptr || a->shape.size() != 2 || b->shape.size() != 2) {
      return MakeError(
          ErrorCode::kUnsupported,
          "{}: the shared matrices vera_A and vera_B are missing; save with save_projection=True", path_);
    }
    for (size_t layer = 0; layer < adapter_.layers.size(); ++layer) {
      for (size_t s = 0; s < kNumLinearSlots; ++s) {
        const AdapterModule& m = adapter_.layers[layer][s];
        if (!m.rank_scale && !m.delta_scale) continue;
        const Weight& w = model_.layers()[layer].linear[s];
        if (!m.rank_scale || !m.delta_scale || m.rank_scale.size() != a->shape[0] ||
            b->shape[1] != a->shape[0] || a->shape[1] < w.n_in || b->shape[0] < w.n_out) {
          return MakeError(
              ErrorCode::kCorrupt, "{}: {} lacks one of its vectors, or the shared matrices do not fit",
              path_, HfModuleName(*model_.config().arch, static_cast<Slot>(s), static_cast<int64_t>(layer)));
        }
      }
    }
    ASSIGN_OR_RETURN(const Tensor a_values, DecodeTensor(path_, *a, a->shape[0], a->shape[1]));
    ASSIGN_OR_RETURN(const Tensor b_values, DecodeTensor(path_, *b, b->shape[0], b->shape[1]));
    ShareVeraMatrices(model_, a_values, b_values, adapter_);
    return {};
  }

  Status PlaceNorms() {
    const ArchRow& arch = *model_.config().arch;
    std::unordered_map<std::string, std::pair<Tensor*, Slot>> places;
    adapter_.norms.resize(model_.layers().size());
    const auto add = [&](int64_t layer, Slot slot, const Tensor& original, Tensor& own) {
      if (original) places[HfModuleName(arch, slot, layer) + ".ln_tuning_layers.weight"] = {&own, slot};
    };
    for (size_t layer = 0; layer < model_.layers().size(); ++layer) {
      for (int i = 0; i < kNumNormSlots; ++i) {
        const Slot slot = NormSlot(i);
        add(static_cast<int64_t>(layer), slot, model_.layers()[layer].norm(slot), adapter_.norms[layer][i]);
      }
    }
    add(0, Slot::kOutputNorm, model_.output_norm(), adapter_.output_norm);
    for (const TensorInfo& info : file_.weights.tensors) {
      std::string name = info.name;
      if (name.starts_with(kPeftPrefix)) name.erase(0, std::strlen(kPeftPrefix));
      const auto place = places.find(name);
      if (place == places.end()) {
        return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' is no norm of this model", path_,
                         info.name);
      }
      const auto& [own, slot] = place->second;
      const bool of_heads = slot == Slot::kQNorm || slot == Slot::kKNorm;
      ASSIGN_OR_RETURN(*own, DecodeTensor(path_, AsRow(info), 1,
                                          of_heads ? model_.config().head_dim : model_.config().d_model));
      for (int64_t i = 0; i < own->size(); ++i) own->data()[i] += HfNormOffset(arch, slot);
    }
    return {};
  }

  Status PlaceVirtualTokens() {
    const bool is_prefix = file_.peft_type == "PREFIX_TUNING";
    const ModelConfig& c = model_.config();
    const int64_t kv_width = c.n_kv_heads * c.head_dim;
    const TensorInfo* info = file_.weights.tensors.Find("prompt_embeddings");
    if (info == nullptr || file_.weights.tensors.size() != 1 || info->shape.empty() || info->shape[0] < 1) {
      return MakeError(ErrorCode::kCorrupt, "{}: holds other tensors than 'prompt_embeddings'", path_);
    }
    ASSIGN_OR_RETURN(Tensor rows, DecodeTensor(path_, *info, info->shape[0],
                                               is_prefix ? c.n_layers * 2 * kv_width : c.d_model));
    if (is_prefix) {
      const RowOrder order = PeftPrefixOrder(model_);
      adapter_.prefix = Tensor::Empty(rows.rows(), rows.cols());
      for (int64_t i = 0; i < rows.size(); ++i) adapter_.prefix.data()[order(i)] = rows.data()[i];
    } else {
      adapter_.prompt = std::move(rows);
    }
    return {};
  }

  Status ApplyMagnitudes() {
    for (const auto& [target, magnitude] : magnitudes_) {
      AdapterModule& module = ModuleOf(target);
      const Weight& w = model_.layers()[target.layer].weight(target.slot);
      if (module.a) ApplyMagnitude(w, magnitude, module);
    }
    for (const auto& layer : adapter_.layers) {
      for (const AdapterModule& m : layer) {
        if (m.a && !m.out_scale) {
          return MakeError(ErrorCode::kCorrupt, "{}: a layer of this DoRA adapter has no magnitudes", path_);
        }
      }
    }
    return {};
  }

  const std::string& path_;
  const Model& model_;
  PeftAdapter file_;
  Adapter adapter_;
  std::vector<std::pair<AdapterTarget, Tensor>> magnitudes_;
};

}  // namespace

Result<Adapter> LoadPeftAdapter(const std::string& path, const Model& model) {
  return PeftLoader(path, model).Load();
}

}  // namespace thimble

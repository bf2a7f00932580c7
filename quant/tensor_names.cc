#include "quant/tensor_names.h"

namespace thimble {

std::unordered_map<std::string, TensorPlace> PlacesByName(const ModelConfig& config, Naming naming) {
  std::unordered_map<std::string, TensorPlace> places;
  for (const TensorRow& row : config.arch->tensors) {
    const char* pattern = naming == Naming::kGguf ? row.gguf : row.hf;
    if (pattern == nullptr) continue;
    const bool per_layer = std::string_view(pattern).find("{}") != std::string_view::npos;
    for (int64_t layer = 0; layer < (per_layer ? config.n_layers : 1); ++layer) {
      places[LayerName(pattern, layer)] = {&row, layer};
    }
  }
  return places;
}

Status CheckTensors(const ModelConfig& config, Naming naming, const TensorTable& tensors,
                    const std::string& path) {
  for (const auto& [name, place] : PlacesByName(config, naming)) {
    const TensorInfo* tensor = tensors.Find(name);
    if (tensor == nullptr) {
      if (place.row->optional) continue;
      return MakeError(ErrorCode::kNotFound, "{}: tensor '{}' is missing", path, name);
    }
    if (!Info(tensor->type).decodable) {
      return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}, which cannot be computed with",
                       path, name, Name(tensor->type));
    }
    const bool heads = place.row->transform == GgufTransform::kPermuteHeads;
    if (tensor->shape.empty() || (heads && tensor->shape[0] % config.head_dim != 0)) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has shape [{}], not whole heads of {}", path,
                       name, fmt::join(tensor->shape, ", "), config.head_dim);
    }
    if (place.row->slot == Slot::kEmbedding && tensor->shape[0] != config.vocab_size) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has {} rows for a vocabulary of {}", path, name,
                       tensor->shape[0], config.vocab_size);
    }
  }
  return {};
}

}  // namespace thimble

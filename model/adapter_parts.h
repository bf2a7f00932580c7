// What reading adapters from PEFT folders and from GGUF files has in common; private to model/.
#pragma once

#include <string>
#include <unordered_map>

#include "model/adapter.h"

namespace thimble {

constexpr const char* kPeftPrefix = "base_model.model.";

// A linear layer.
struct AdapterTarget {
  int64_t layer;
  Slot slot;
};

// By name, in Hugging Face's or GGUF's words.
std::unordered_map<std::string, AdapterTarget> AdapterTargets(const ModelConfig& config, bool gguf_names);
// The order of rows that belong to a layer's outputs: the target's row i is the source's row order(i). Heads
// are permuted in GGUF only; `from_gguf` and `to_gguf` say whether a side has them permuted.
RowOrder OutputOrder(const ModelConfig& config, Slot slot, bool from_gguf, bool to_gguf);
Tensor ReorderRows(const Tensor& t, const RowOrder& order);
// In F32. Errors name the file `path` and the tensor: another shape, a type without numbers, not finite.
Result<Tensor> DecodeTensor(const std::string& path, const TensorInfo& info, int64_t rows, int64_t cols);
// LoRA's A or B, into the adapter.
Status PlaceLora(const std::string& path, const TensorInfo& info, bool is_a, const AdapterTarget& target,
                 const Model& model, bool file_is_gguf, Adapter& adapter);
// Every module has all parts of its kind, of one rank, and there is one at least.
Status CheckComplete(const std::string& path, const Model& model, const Adapter& adapter);

Result<Adapter> LoadPeftAdapter(const std::string& path, const Model& model);

}  // namespace thimble

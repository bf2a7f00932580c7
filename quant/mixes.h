// Which type each tensor gets under a name such as "Q4_K_M": llama.cpp's mixes as a table
// (src/llama-quant.cpp, llama_tensor_get_type, without an importance matrix but for the mixes that there need
// one), so that a file made here has the types of one made there.
#pragma once

#include <cstdint>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "codec/types.h"
#include "formats/metadata.h"

namespace thimble {

// The layers or models in which a role's first choice counts; the others get the second.
enum class MixWhen {
  kNever,
  kAlways,
  kGqa4,      // four or more query heads share a key-value head
  kFirstTwo,  // by layer ...
  kFirstFour,
  kFirstSixteenth,
  kFirstEighth,
  kBetween,   // without the first and the last eighth
  kMoreBits,  // the first and the last eighth and every third layer between
};

struct MixRule {
  MixWhen when = MixWhen::kNever;
  WeightType then = WeightType::kF32;
  std::optional<WeightType> otherwise = std::nullopt;  // the mix's base type where absent
};

// One row of the table. A type of our own will be a row too.
struct MixRow {
  const char* name;    // as llama-quantize has it
  uint32_t file_type;  // general.file_type (gguf-py's LlamaFileType)
  WeightType base;
  MixRule attn_v = {}, attn_output = {}, ffn_down = {}, attn_q_k = {}, ffn_gate_up = {};
  std::optional<WeightType> embedding = {};  // where it is not the output
  WeightType output = WeightType::kQ6_K;
};

std::span<const MixRow> AllMixes();
// Case-insensitive; "int8" is Q8_0, "Q3_K", "Q4_K" and "Q5_K" are the _M mixes. Unknown names: an error that
// lists all.
Result<const MixRow*> FindMix(std::string_view name);
// nullptr for a number that no row has.
const MixRow* FindMixByFileType(uint32_t file_type);

// Of GGUF's own, for a row of a native type: the smallest that adds no more than a tenth to its squared
// error.
WeightType PortableType(WeightType native, int64_t row_size);

struct TypeOverride {
  std::string pattern;  // ECMAScript regular expression, searched for in the tensor's name
  WeightType type;
};
// "PATTERN=TYPE", e.g. "attn_v=Q8_0".
Result<TypeOverride> ParseTypeOverride(std::string_view text);

struct MixOptions {
  std::string type;                     // FindMix's names
  std::vector<TypeOverride> overrides;  // the first that matches wins
  std::optional<WeightType> output_type, embedding_type;
  bool pure = false;  // the base type for every matrix
};

// Whether llama.cpp refuses this type for a matrix without an importance matrix (tensor_requires_imatrix).
bool NeedsImportance(const MixRow& mix, std::string_view tensor_name, WeightType type);

// What the rules need to know of a model.
struct MixShape {
  std::string arch;  // general.architecture
  int64_t n_layers = 0, n_heads = 0, n_kv_heads = 0;
};
Result<MixShape> MixShapeFromMetadata(const Metadata& metadata);

struct MixTensor {
  std::string name;  // GGUF's
  std::vector<int64_t> shape;
  WeightType type;  // kept where the tensor is not to be quantized: vectors, norms
};
struct MixChoice {
  WeightType type;
  WeightType wanted;  // differs from `type` where the row is not a multiple of the wanted type's block
  bool fallback() const { return type != wanted; }
};
// One choice per tensor, in their order.
Result<std::vector<MixChoice>> ChooseTypes(const MixOptions& options, const MixShape& shape,
                                           std::span<const MixTensor> tensors);

}  // namespace thimble

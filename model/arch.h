// Architectures as data: names, tensors and the mechanisms of a block. A new family is one file in
// model/arch/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ops/elementwise.h"

namespace thimble {

// What a tensor is for. The first seven are the linear layers that adapters attach to.
enum class Slot {
  kQ,
  kK,
  kV,
  kO,
  kGate,
  kUp,
  kDown,
  kQBias,  // biases stand in the order of their layers
  kKBias,
  kVBias,
  kOBias,
  kGateBias,
  kUpBias,
  kDownBias,
  kAttnNorm,
  kQNorm,
  kKNorm,
  kPostAttnNorm,
  kFfnNorm,
  kPostFfnNorm,
  kEmbedding,
  kOutputNorm,
  kOutput,
  kRopeFactors,
};
constexpr int kNumLinearSlots = 7;
constexpr int kNumNormSlots = 6;  // of a layer: kAttnNorm ... kPostFfnNorm
inline int NormIndex(Slot norm) {
  return static_cast<int>(norm) - static_cast<int>(Slot::kAttnNorm);
}
inline Slot NormSlot(int index) {
  return static_cast<Slot>(static_cast<int>(Slot::kAttnNorm) + index);
}
inline Slot BiasOf(Slot linear) {
  return static_cast<Slot>(static_cast<int>(linear) + static_cast<int>(Slot::kQBias));
}

// How GGUF's copy of a tensor differs from Hugging Face's.
enum class GgufTransform {
  kNone,
  kPermuteHeads,  // rows of each head: RoPE pairs (i, i + head_dim/2) brought next to each other
  kPlusOne,       // Gemma's norm weights are stored as 1 + w
};

// "{}" in a name is the layer's number.
struct TensorRow {
  Slot slot;
  const char* gguf;
  const char* hf;  // nullptr: not a tensor there
  bool optional = false;
  GgufTransform transform = GgufTransform::kNone;
};

struct ArchRow {
  const char* gguf_arch;                  // general.architecture, and the prefix of its keys
  std::span<const char* const> hf_types;  // config.json's model_type; the first is written by convert
  const char* hf_class;                   // config.json's architectures
  std::span<const TensorRow> tensors;
  Activation activation = Activation::kSilu;
  bool gguf_rope_interleaved = false;
  bool scale_embedding = false;  // by sqrt(d_model)
  bool tied_by_default = false;  // config.json's tie_word_embeddings if absent
  double default_rope_theta = 10000;
  double default_rope_theta_local = 0;  // > 0: local layers have a RoPE base of their own
  // config.json's flag without which sliding_window does not count; layers before max_window_layers then stay
  // global.
  const char* hf_window_switch = nullptr;
  int default_window_pattern = 0;  // n > 0: every n-th layer is global, the others local; 0: all alike
  // Keys that llama.cpp's converter writes for this family although others imply them.
  bool gguf_head_size_keys = true;    // attention.key_length and value_length
  bool gguf_llama_size_keys = false;  // vocab_size and rope.dimension_count
};

std::span<const ArchRow* const> AllArchs();
// nullptr if unknown.
const ArchRow* FindArchByGguf(std::string_view gguf_arch);
const ArchRow* FindArchByHf(std::string_view model_type);
// "llama, qwen2, ..." for error messages.
std::string SupportedArchs();

// The name of a row's tensor in layer `layer`.
std::string LayerName(const char* pattern, int64_t layer);
// The row of a slot, or nullptr if the architecture lacks it.
const TensorRow* FindRow(const ArchRow& arch, Slot slot);

}  // namespace thimble

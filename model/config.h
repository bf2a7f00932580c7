// A model's sizes and constants, read from GGUF keys or config.json.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/metadata.h"
#include "formats/model_file.h"
#include "model/arch.h"
#include "ops/rope.h"

namespace thimble {

struct ModelConfig {
  const ArchRow* arch = nullptr;
  int64_t n_layers = 0, d_model = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, d_ff = 0, vocab_size = 0;
  int64_t context_length = 0;
  float rms_eps = 1e-5f;
  double rope_theta = 10000;
  double rope_theta_local = 0;  // of local layers; 0: as the others
  double rope_linear_factor =
      1;  // positions are divided by it (global layers only, where there are local ones)
  std::vector<float>
      rope_factors;  // Llama 3: each frequency is divided by its factor; [head_dim / 2] or empty
  RopeStyle rope_style = RopeStyle::kHalf;
  int64_t sliding_window = 0;  // 0: none
  std::vector<bool> is_local;  // per layer: uses the sliding window; [n_layers]
  float attention_scale = 0;
  bool tied_embeddings = false;

  bool has_local_layers() const;
  float embedding_scale() const;  // what embeddings are multiplied by
  // Angular frequencies of RoPE, [head_dim / 2].
  std::vector<double> RopeFrequencies(bool local) const;
};

Result<ModelConfig> ModelConfigFromGguf(const GgufFile& file);
Result<ModelConfig> ModelConfigFromHf(const HfDirectory& directory);

// The inverse, for `thimble convert`: the keys that llama.cpp's converter writes, and config.json (an error
// without a file's name where it can't say what the model does).
void ModelConfigToGguf(const ModelConfig& config, Metadata& metadata);
Result<Json> ModelConfigToHf(const ModelConfig& config);

// Llama 3's frequency factors (Transformers, modeling_rope_utils.py, _compute_llama3_parameters): the divisor
// of each of head_dim / 2 frequencies.
std::vector<float> Llama3RopeFactors(double theta, int64_t head_dim, double factor, double low_freq_factor,
                                     double high_freq_factor, int64_t original_context);

}  // namespace thimble

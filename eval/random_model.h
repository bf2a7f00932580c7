// Models of real shapes with random weights: what a product costs does not depend on what the weights are.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thimble {

struct RandomModelShape {
  const char* name;  // "1B"
  const char* like;  // the model whose sizes these are
  const char* arch;  // general.architecture
  int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size;
  double rope_theta;
  float rms_eps;
};
std::span<const RandomModelShape> RandomModelShapes();
Result<const RandomModelShape*> FindRandomModelShape(std::string_view name);

// A GGUF with the types that `thimble quantize --type TYPE` would choose, tied embeddings, and a vocabulary
// of the bytes and fillers. Weights are normal with deviation 0.02, as in a model that was just initialized,
// so that activations stay finite. They are drawn from a pool of encoded blocks: seconds, not minutes. The
// same file for the same seed.
Status WriteRandomModel(const RandomModelShape& shape, const std::string& type, const std::string& path,
                        uint64_t seed = 0);

}  // namespace thimble

// Rotary position embedding (Su et al. 2021).
#pragma once

#include <span>
#include <vector>

#include "ops/context.h"

namespace thimble {

// Which elements of a head form a pair: (i, i + head_dim/2), as Hugging Face stores weights, or (2i, 2i + 1),
// as GGUF stores Llama's after permuting them.
enum class RopeStyle { kHalf, kInterleaved };

// cos and sin for each position of a batch, shape [positions, head_dim / 2].
struct RopeTable {
  int64_t n_pairs = 0;
  std::vector<float> cos, sin;
};
// angle = position * frequencies[i].
RopeTable MakeRopeTable(std::span<const int32_t> positions, std::span<const double> frequencies);

// Rotates the heads of x [positions, heads * head_dim] in place. Backward rotates the gradient back in place.
void Rope(const Context& ctx, const Tensor& x, int64_t head_dim,
          const std::shared_ptr<const RopeTable>& table, RopeStyle style);

}  // namespace thimble

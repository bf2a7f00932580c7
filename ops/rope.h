// Rotary position embedding (Su et al. 2021).
#pragma once

#include <span>

#include "ops/context.h"

namespace thimble {

// Which elements of a head form a pair: (i, i + head_dim/2), as Hugging Face stores weights, or (2i, 2i + 1),
// as GGUF stores Llama's after permuting them.
enum class RopeStyle { kHalf, kInterleaved };

// What each element of a head is multiplied with at each position of a batch: cos and, for its partner, sin,
// negative for the first of a pair. [positions, head_dim]
struct RopeTable {
  RopeStyle style = RopeStyle::kHalf;
  Tensor cos, sin;
};
// The angle of a head's pair number i is position * frequencies[i].
RopeTable MakeRopeTable(std::span<const int32_t> positions, std::span<const double> frequencies,
                        RopeStyle style);

// Rotates the heads of x [positions, heads * head_dim] in place. Backward rotates the gradient back in place.
void Rope(const Context& ctx, const Tensor& x, const RopeTable& table);

}  // namespace thimble

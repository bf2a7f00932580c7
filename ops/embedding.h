#pragma once

#include <span>

#include "ops/linear.h"

namespace thimble {

// Rows of a [vocab, d] weight, times `scale`: [ids, d]. Ids must be in range. A trained weight
// gets gradients.
Tensor Embedding(const Context& ctx, const Weight& weight, std::span<const int32_t> ids, float scale = 1);

}  // namespace thimble

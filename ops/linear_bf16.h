// Linear layers in BF16 (Compute::kBf16); private to ops/.
#pragma once

#include "ops/linear_parts.h"

namespace thimble {

// y[i] = weights[i] x, and what loras[i] adds to it (without dropout; none where `loras` is empty); biases
// are left to the caller. Each thread decodes and packs the weights that it multiplies; inputs, gradients and
// what LoRA multiplies are rounded to BF16, and sums are in F32. LoRA takes part as more columns of the
// products: [x, h] [W, B]^T with h = scale x A^T, and back [dy, dh] [W; A] with dh = scale dy B. Backward
// makes the input's rows again.
void LinearBf16(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& x,
                std::span<const LoraTerm> loras, std::span<Tensor> y);

// GatedLinear of frozen weights without biases: both factors, and their gradients, are kept in BF16 alone.
LinearInput GatedLinearBf16(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& x,
                            Activation activation, std::span<const LoraTerm> loras);

}  // namespace thimble

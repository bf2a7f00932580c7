// Attention over a batch with its products in BF16, forward and backward: what Compute::kBf16 asks for. Sums
// and the softmax stay in F32.
#pragma once

#include <span>

#include "ops/attention.h"
#include "ops/bf16_rows.h"

namespace thimble {

// Whether the context asks for BF16 products and the kernels have them.
bool UsesBf16Attention(const Context& ctx, const AttentionParams& params);

// Rounded, which is all that the products read.
struct Bf16Operands {
  Bf16Rows q, k, v;
};
Bf16Operands RoundedOperands(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v);

// Fills y, shaped as q, and log_sums [T, n_heads]: log(sum(exp(scores))) of each query and head.
void Bf16Attention(const Context& ctx, const Bf16Operands& operands,
                   std::span<const AttentionSegment> segments, const AttentionParams& params, const Tensor& y,
                   const Tensor& log_sums);
// Adds to the gradients of q, k and v, given y with its gradient and log_sums. Their data are not read.
void Bf16AttentionBackward(const Context& ctx, const Bf16Operands& operands, const Tensor& q, const Tensor& k,
                           const Tensor& v, std::span<const AttentionSegment> segments,
                           const AttentionParams& params, const Tensor& y, const Tensor& log_sums);

}  // namespace thimble

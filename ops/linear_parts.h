// What the products of linear layers have in common; private to ops/.
#pragma once

#include "ops/linear.h"

namespace thimble {

constexpr size_t kMaxWeightsAtOnce = 3;

// dw += dy^T x, and the bias's gradient, where they are trained.
void BackwardWeight(const Context& ctx, const Weight& w, const Tensor& x, const float* dy);

// Of m activation rows, those whose part of LoRA's gradients is computed at a time, while they are in cache:
// a multiple of 32.
// Each part has memory of its own and is added up in order, so that sums do not depend on the number of
// threads.
int64_t LoraBlock(int64_t m);
// Adds up to LoRA's gradients what parts of the rows give: row i of da [parts, .] holds [r, n_in] from column
// `first` on, row i of db [parts, r * n_out] the transposed gradient of b.
void AddLoraGradients(const Context& ctx, const LoraTerm& lora, const Tensor& da, int64_t first,
                      const Tensor& db);

}  // namespace thimble

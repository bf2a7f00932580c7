#pragma once

#include "ops/context.h"

namespace thimble {

// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * weight, over each group of weight.size()
// consecutive columns. One group is the whole row for a layer norm, one head for QK-norm. weight [1, n].
Tensor RmsNorm(const Context& ctx, const Tensor& x, const Tensor& weight, float eps);
// Its backward pass alone, of y's gradient.
void RecordRmsNorm(const Context& ctx, const Tensor& x, const Tensor& weight, float eps, const Tensor& y);

}  // namespace thimble

// What a linear layer multiplies.
#pragma once

#include <utility>

#include "ops/bf16_rows.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

namespace thimble {

// A tensor, or what RmsNorm or GatedActivation makes of tensors. A product that rounds its input makes each
// row as it rounds it, so that the result of the operation never goes through memory; the others, and passes
// that are recorded, compute it first.
class LinearInput {
 public:
  LinearInput(Tensor x) : x_(std::move(x)) {}
  static LinearInput Normed(Tensor x, Tensor weight, float eps);  // one group: the whole row
  static LinearInput Gated(Tensor gate, Tensor up, Activation activation);

  // Of rounded tensors; whoever made them records the backward pass of y's gradient, y being without data.
  static LinearInput Gated(Bf16Rows gate, Bf16Rows up, Activation activation, Tensor y);

  int64_t rows() const { return x_.rows(); }
  int64_t cols() const { return x_.cols(); }
  Tensor Whole(const Context& ctx) const;
  // A tensor without data whose gradient is that of Whole's result; or the tensor itself.
  Tensor ForGradient(const Context& ctx) const;
  // Row i where it stands, or made in `buffer`. [cols()]
  const float* Row(const Context& ctx, int64_t i, float* buffer) const;

 private:
  Tensor x_, up_, norm_weight_;   // the others unset: not Gated, not Normed
  Bf16Rows gate_rows_, up_rows_;  // if set, x_ is the result
  Activation activation_ = Activation::kSilu;
  float norm_eps_ = 0;
};

}  // namespace thimble

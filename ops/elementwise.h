#pragma once

#include "ops/context.h"

namespace thimble {

// b += a, in place; b is then the sum, and its gradient serves both. b's old data must not be needed by the
// backward pass of the op that made it (true of Linear and RmsNorm).
void AddInto(const Context& ctx, const Tensor& a, const Tensor& b);

// t *= s, in place and without a backward pass.
void ScaleInPlace(const Tensor& t, float s);

// y += scale * bias [1, cols] in every row, in place.
void AddBias(const Context& ctx, const Tensor& bias, float scale, const Tensor& y);

// max(x, 0)
Tensor Relu(const Context& ctx, const Tensor& x);

// x with each column scaled: (x - fixed) * scale + fixed, `fixed` [cols] being what is not to be scaled, or
// null for nothing. scale [1, cols].
Tensor ScaleColumns(const Context& ctx, const Tensor& x, const Tensor& scale, const float* fixed = nullptr);

enum class Activation { kSilu, kGeluTanh };
// activation(gate) * up (Shazeer 2020, "GLU variants").
Tensor GatedActivation(const Context& ctx, const Tensor& gate, const Tensor& up, Activation activation);
// Its backward pass alone, of y's gradient.
void RecordGatedActivation(const Context& ctx, const Tensor& gate, const Tensor& up, Activation activation,
                           const Tensor& y);

}  // namespace thimble

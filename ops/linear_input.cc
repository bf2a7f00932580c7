#include "ops/linear_input.h"

#include "base/check.h"

namespace thimble {

LinearInput LinearInput::Normed(Tensor x, Tensor weight, float eps) {
  CHECK(weight.size() == x.cols());
  LinearInput input(std::move(x));
  input.norm_weight_ = std::move(weight);
  input.norm_eps_ = eps;
  return input;
}

LinearInput LinearInput::Gated(Tensor gate, Tensor up, Activation activation) {
  CHECK(gate.rows() == up.rows() && gate.cols() == up.cols());
  LinearInput input(std::move(gate));
  input.up_ = std::move(up);
  input.activation_ = activation;
  return input;
}

LinearInput LinearInput::Gated(Bf16Rows gate, Bf16Rows up, Activation activation, Tensor y) {
  LinearInput input(std::move(y));
  input.gate_rows_ = std::move(gate);
  input.up_rows_ = std::move(up);
  input.activation_ = activation;
  return input;
}

Tensor LinearInput::Whole(const Context& ctx) const {
  if (gate_rows_) {
    x_.AllocateData();
    ctx.pool.ParallelFor(rows(), 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) Row(ctx, i, x_.row(i));
    });
  }
  if (norm_weight_) return RmsNorm(ctx, x_, norm_weight_, norm_eps_);
  if (up_) return GatedActivation(ctx, x_, up_, activation_);
  return x_;
}

Tensor LinearInput::ForGradient(const Context& ctx) const {
  if (!norm_weight_ && !up_) return x_;
  const Tensor y = Tensor::WithoutData(rows(), cols());
  if (norm_weight_) {
    RecordRmsNorm(ctx, x_, norm_weight_, norm_eps_, y);
  } else {
    RecordGatedActivation(ctx, x_, up_, activation_, y);
  }
  return y;
}

const float* LinearInput::Row(const Context& ctx, int64_t i, float* buffer) const {
  const KernelTable& k = ctx.kernels;
  const bool silu = activation_ == Activation::kSilu;
  if (gate_rows_) {
    const auto activate = silu ? k.silu_mul_bf16 : k.gelu_mul_bf16;
    activate(gate_rows_.row(i), up_rows_.row(i), buffer, cols());
  } else if (norm_weight_) {
    k.rms_norm(x_.row(i), norm_weight_.data(), norm_eps_, buffer, cols());
  } else if (up_) {
    const auto activate = silu ? k.silu_mul : k.gelu_mul;
    activate(x_.row(i), up_.row(i), buffer, cols());
  } else {
    return x_.row(i);
  }
  return buffer;
}

}  // namespace thimble

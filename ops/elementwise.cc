#include "ops/elementwise.h"

#include <algorithm>

#include "base/check.h"

namespace thimble {
namespace {

constexpr int64_t kGrain = 1 << 14;

}  // namespace

void AddInto(const Context& ctx, const Tensor& a, const Tensor& b) {
  CHECK(a.rows() == b.rows() && a.cols() == b.cols());
  ctx.pool.ParallelFor(a.size(), kGrain, [&](int64_t begin, int64_t end, int) {
    ctx.kernels.axpy(1, a.data() + begin, b.data() + begin, end - begin);
  });
  if (ctx.Records({a})) {
    b.set_requires_grad(true);
    ctx.tape->Record([ctx, a, b] {
      const float* const from = b.grad();
      const auto [to, fresh] = a.GradTarget();
      ctx.pool.ParallelFor(a.size(), kGrain, [&](int64_t begin, int64_t end, int) {
        if (fresh) {
          std::copy(from + begin, from + end, to + begin);
        } else {
          ctx.kernels.axpy(1, from + begin, to + begin, end - begin);
        }
      });
    });
  }
}

void ScaleInPlace(const Tensor& t, float s) {
  float* p = t.data();
  for (int64_t i = 0; i < t.size(); ++i) p[i] *= s;
}

void AddBias(const Context& ctx, const Tensor& bias, float scale, const Tensor& y) {
  CHECK(bias.size() == y.cols());
  for (int64_t i = 0; i < y.rows(); ++i) ctx.kernels.axpy(scale, bias.data(), y.row(i), y.cols());
  if (!ctx.Records({bias})) return;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, bias, scale, y] {
    for (int64_t i = 0; i < y.rows(); ++i) {
      ctx.kernels.axpy(scale, y.grad() + i * y.cols(), bias.grad(), y.cols());
    }
  });
}

Tensor Relu(const Context& ctx, const Tensor& x) {
  const Tensor y = Tensor::Empty(x.rows(), x.cols());
  for (int64_t i = 0; i < x.size(); ++i) y.data()[i] = std::max(x.data()[i], 0.0f);
  if (!ctx.Records({x})) return y;
  y.set_requires_grad(true);
  ctx.tape->Record([x, y] {
    for (int64_t i = 0; i < x.size(); ++i) x.grad()[i] += y.data()[i] > 0 ? y.grad()[i] : 0;
  });
  return y;
}

Tensor ScaleColumns(const Context& ctx, const Tensor& x, const Tensor& scale, const float* fixed) {
  CHECK(scale.size() == x.cols());
  const int64_t cols = x.cols(), rows_at_once = 1 + kGrain / cols;
  const Tensor y = Tensor::Empty(x.rows(), cols);
  ctx.pool.ParallelFor(x.rows(), rows_at_once, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* from = x.row(i);
      float* to = y.row(i);
      for (int64_t j = 0; j < cols; ++j) {
        const float still = fixed != nullptr ? fixed[j] : 0;
        to[j] = (from[j] - still) * scale.data()[j] + still;
      }
    }
  });
  if (!ctx.Records({x, scale})) return y;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, x, scale, fixed, y, cols, rows_at_once] {
    if (x.requires_grad()) {
      float* const dx = x.grad();
      ctx.pool.ParallelFor(x.rows(), rows_at_once, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin * cols; i < end * cols; ++i) dx[i] += y.grad()[i] * scale.data()[i % cols];
      });
    }
    if (scale.requires_grad()) {
      float* const dscale = scale.grad();
      ctx.pool.ParallelFor(cols, 64, [&](int64_t begin, int64_t end, int) {  // rows in order: always one sum
        for (int64_t i = 0; i < x.rows(); ++i) {
          const float *dy = y.grad() + i * cols, *from = x.row(i);
          for (int64_t j = begin; j < end; ++j) {
            dscale[j] += dy[j] * (from[j] - (fixed != nullptr ? fixed[j] : 0));
          }
        }
      });
    }
  });
  return y;
}

Tensor GatedActivation(const Context& ctx, const Tensor& gate, const Tensor& up, Activation activation) {
  CHECK(gate.size() == up.size());
  const Tensor y = Tensor::Empty(gate.rows(), gate.cols());
  const auto forward = activation == Activation::kSilu ? ctx.kernels.silu_mul : ctx.kernels.gelu_mul;
  ctx.pool.ParallelFor(y.size(), kGrain, [&](int64_t begin, int64_t end, int) {
    forward(gate.data() + begin, up.data() + begin, y.data() + begin, end - begin);
  });
  RecordGatedActivation(ctx, gate, up, activation, y);
  return y;
}

void RecordGatedActivation(const Context& ctx, const Tensor& gate, const Tensor& up, Activation activation,
                           const Tensor& y) {
  if (!ctx.Records({gate, up})) return;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, gate, up, y, activation] {
    const float* dy = y.grad();
    const auto [dgate, gate_fresh] = gate.GradTarget();
    const auto [dup, up_fresh] = up.GradTarget();
    const auto backward =
        activation == Activation::kSilu ? ctx.kernels.silu_mul_backward : ctx.kernels.gelu_mul_backward;
    ctx.pool.ParallelFor(gate.size(), kGrain, [&](int64_t begin, int64_t end, int) {
      if (gate_fresh) std::fill(dgate + begin, dgate + end, 0.0f);
      if (up_fresh) std::fill(dup + begin, dup + end, 0.0f);
      backward(gate.data() + begin, up.data() + begin, dy + begin, dgate + begin, dup + begin, end - begin);
    });
  });
}

}  // namespace thimble

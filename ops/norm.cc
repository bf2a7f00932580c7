#include "ops/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace thimble {
namespace {

float InverseRms(const KernelTable& k, const float* x, int64_t n, float eps) {
  return 1.0f / std::sqrt(k.dot(x, x, n) / static_cast<float>(n) + eps);
}

// dw += dy * xhat of every group, in the order of the groups whatever the number of threads.
void BackwardWeight(const Context& ctx, const Tensor& x, const float* dy, const Tensor& weight, float eps) {
  const int64_t n = weight.size(), n_groups = x.size() / n;
  std::vector<float> inverse(static_cast<size_t>(n_groups));
  ctx.pool.ParallelFor(n_groups, 1 + 8192 / n, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) inverse[g] = InverseRms(ctx.kernels, x.data() + g * n, n, eps);
  });
  float* const dw = weight.grad();
  ctx.pool.ParallelFor(n, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = 0; g < n_groups; ++g) {
      for (int64_t j = begin; j < end; ++j) dw[j] += dy[g * n + j] * x.data()[g * n + j] * inverse[g];
    }
  });
}

}  // namespace

Tensor RmsNorm(const Context& ctx, const Tensor& x, const Tensor& weight, float eps) {
  const int64_t n = weight.size();
  CHECK(n > 0 && x.cols() % n == 0);
  const int64_t n_groups = x.size() / n;
  Tensor y = Tensor::Empty(x.rows(), x.cols());
  ctx.pool.ParallelFor(n_groups, 1 + 8192 / n, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      ctx.kernels.rms_norm(x.data() + g * n, weight.data(), eps, y.data() + g * n, n);
    }
  });
  RecordRmsNorm(ctx, x, weight, eps, y);
  return y;
}

void RecordRmsNorm(const Context& ctx, const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  if (!ctx.Records({x, weight})) return;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, x, y, weight, eps] {
    const int64_t n = weight.size(), n_groups = x.size() / n;
    const float* dy = y.grad();
    if (weight.requires_grad()) BackwardWeight(ctx, x, dy, weight, eps);
    if (!x.requires_grad()) return;
    const auto [dx, fresh] = x.GradTarget();
    ctx.pool.ParallelFor(n_groups, 1 + 8192 / n, [&](int64_t begin, int64_t end, int) {
      if (fresh) std::fill(dx + begin * n, dx + end * n, 0.0f);
      for (int64_t g = begin; g < end; ++g) {
        ctx.kernels.rms_norm_backward(x.data() + g * n, weight.data(), eps, dy + g * n, dx + g * n, n);
      }
    });
  });
}

}  // namespace thimble

#include "quant/squared_sums.h"

#include <cmath>

namespace thimble {

SquaredSums MeasureSquaredSums(const KernelTable& kernels, const float* x, float* y, int64_t n, float limit) {
  kernels.axpy(-1.0f, x, y, n);
  SquaredSums sums{kernels.dot(y, y, n), kernels.dot(x, x, n)};
  if (limit == std::numeric_limits<float>::max() && std::isfinite(sums.error + sums.sum)) return sums;
  sums = {};
  for (int64_t i = 0; i < n; ++i) {
    sums.error += std::abs(x[i]) <= limit ? static_cast<double>(y[i]) * y[i] : HUGE_VAL;
    sums.sum += static_cast<double>(x[i]) * x[i];
  }
  return sums;
}

}  // namespace thimble

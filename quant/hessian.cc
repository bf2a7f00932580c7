#include "quant/hessian.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace thimble {
namespace {

constexpr int64_t kPanel = 64;  // columns that are factorized at a time

// a [size, size] = L L^T in place; false if it is not positive definite.
bool FactorizeCorner(float* a, int64_t ld, int64_t size) {
  for (int64_t j = 0; j < size; ++j) {
    double pivot = a[j * ld + j];
    for (int64_t k = 0; k < j; ++k) pivot -= static_cast<double>(a[j * ld + k]) * a[j * ld + k];
    if (!(pivot > 0)) return false;
    const double root = std::sqrt(pivot);
    a[j * ld + j] = static_cast<float>(root);
    for (int64_t i = j + 1; i < size; ++i) {
      double sum = a[i * ld + j];
      for (int64_t k = 0; k < j; ++k) sum -= static_cast<double>(a[i * ld + k]) * a[j * ld + k];
      a[i * ld + j] = static_cast<float>(sum / root);
    }
  }
  return true;
}

// row [size] = row L^-T, with L [size, size] the corner.
void SolveRow(const float* corner, int64_t ld, int64_t size, float* row) {
  for (int64_t j = 0; j < size; ++j) {
    float sum = row[j];
    for (int64_t k = 0; k < j; ++k) sum -= row[k] * corner[j * ld + k];
    row[j] = sum / corner[j * ld + j];
  }
}

// The lower triangle of a [n, n] becomes L with a = L L^T; false if a is not positive definite.
bool Cholesky(ThreadPool& pool, const KernelTable& kernels, float* a, int64_t n) {
  std::vector<float> negated(static_cast<size_t>(n * kPanel));
  for (int64_t begin = 0; begin < n; begin += kPanel) {
    const int64_t size = std::min(kPanel, n - begin), rest = begin + size;
    float* corner = a + begin * n + begin;
    if (!FactorizeCorner(corner, n, size)) return false;
    pool.ParallelFor(n - rest, 16, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        float* row = a + (rest + i) * n + begin;
        SolveRow(corner, n, size, row);
        for (int64_t k = 0; k < size; ++k) negated[static_cast<size_t>(i * kPanel + k)] = -row[k];
      }
    });
    pool.ParallelFor(n - rest, kPanel, [&](int64_t first, int64_t last, int) {
      kernels.gemm_nt(last - first, last, size, negated.data() + first * kPanel, kPanel, a + rest * n + begin,
                      n, a + (rest + first) * n + rest, n, true);
    });
  }
  return true;
}

}  // namespace

void Hessian::Add(ThreadPool& pool, const KernelTable& kernels, const float* x, int64_t tokens) {
  // Rows of the result come in pieces of equal work: of row i, the columns up to i.
  constexpr int64_t kRows = 48;
  pool.ParallelFor((n + kRows - 1) / kRows, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = piece * kRows, end = std::min(n, begin + kRows);
      kernels.gemm_tn(end - begin, end, tokens, x + begin, n, x, n, h.data() + begin * n, n, true);
    }
  });
}

double Hessian::trace() const {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += diagonal(i);
  return sum;
}

ColumnOrder OrderOf(WeightType type) {
  return IsNative(type) ? ColumnOrder::kRings : ColumnOrder::kAscending;
}

Result<HessianFactor> Factorize(ThreadPool& pool, const KernelTable& kernels, const Hessian& hessian,
                                ColumnOrder order, float damping) {
  const int64_t n = hessian.n;
  CHECK(order == ColumnOrder::kAscending || n % kRing == 0);
  const double trace = hessian.trace();
  if (!std::isfinite(trace)) {
    return MakeError(ErrorCode::kInvalidArgument, "the statistics of a layer's input are not finite");
  }
  const double mean = trace > 0 ? trace / static_cast<double>(n) : 1;
  // With both orders reversed, C is the lower triangular factor. More damping where rounding has made H
  // indefinite.
  std::vector<float> a(hessian.h.size());
  double extra = damping * mean;
  for (bool done = false; !done; extra *= 10) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        const int64_t row = ColumnAt(order, n - 1 - j), column = ColumnAt(order, n - 1 - i);
        a[static_cast<size_t>(i * n + j)] =
            hessian.h[static_cast<size_t>(std::max(row, column) * n + std::min(row, column))];
      }
    }
    for (int64_t i = 0; i < n; ++i) a[static_cast<size_t>(i * n + i)] += static_cast<float>(extra);
    done = Cholesky(pool, kernels, a.data(), n);
    if (!done && extra > 1e3 * mean) {
      return MakeError(ErrorCode::kInvalidArgument, "the statistics of a layer's input are not finite");
    }
  }
  HessianFactor factor{n, order, std::vector<float>(a.size()), std::vector<float>(static_cast<size_t>(n)),
                       std::vector<float>(static_cast<size_t>(n))};
  for (int64_t i = 0; i < n; ++i) factor.importance[static_cast<size_t>(i)] = hessian.diagonal(i);
  pool.ParallelFor(n, 64, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const float c = a[static_cast<size_t>((n - 1 - i) * (n + 1))];
      factor.diagonal[static_cast<size_t>(i)] = c;
      for (int64_t j = 0; j < i; ++j) {
        factor.feedback[static_cast<size_t>(i * n + j)] =
            a[static_cast<size_t>((n - 1 - j) * n + n - 1 - i)] / c;
      }
    }
  });
  return factor;
}

void ScaleColumns(std::span<const float> scales, HessianFactor& factor) {
  const size_t n = static_cast<size_t>(factor.n);
  std::vector<float> ordered(n);
  for (size_t i = 0; i < n; ++i) {
    ordered[i] = scales[static_cast<size_t>(ColumnAt(factor.order, static_cast<int64_t>(i)))];
  }
  for (size_t i = 0; i < n; ++i) {
    factor.diagonal[i] /= ordered[i];
    factor.importance[i] /= scales[i] * scales[i];
    for (size_t j = 0; j < i; ++j) factor.feedback[i * n + j] *= ordered[i] / ordered[j];
  }
}

}  // namespace thimble

// The second moments of a linear layer's input, and the factor by which rounding errors are fed back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "codec/trellis.h"
#include "codec/types.h"
#include "kernels/kernels.h"

namespace thimble {

// H = sum over tokens of weight * x^T x, [n, n] row-major; only the lower triangle is kept. The trace of
// E H E^T is what an error E [n_out, n] of the layer's weights costs, in the unit that the tokens' weights
// give it.
struct Hessian {
  int64_t n = 0;
  std::vector<float> h;

  explicit Hessian(int64_t columns) : n(columns), h(static_cast<size_t>(columns * columns)) {}
  // x [tokens, n], each row already multiplied by the root of its token's weight.
  void Add(ThreadPool& pool, const KernelTable& kernels, const float* x, int64_t tokens);
  double trace() const;
  float diagonal(int64_t i) const { return h[static_cast<size_t>(i * n + i)]; }
};

// The order in which columns are rounded, each making up for the errors of those before it.
enum class ColumnOrder {
  kAscending,
  kRings,  // as the rings of T2 to T5 go (codec/trellis.h)
};
ColumnOrder OrderOf(WeightType type);
inline int64_t ColumnAt(ColumnOrder order, int64_t i) {
  return order == ColumnOrder::kAscending ? i : i - i % kRing + RingColumn(static_cast<int>(i % kRing));
}

// H + damping = C C^T with C upper triangular, as round_block wants it, of columns in that order.
struct HessianFactor {
  int64_t n = 0;
  ColumnOrder order = ColumnOrder::kAscending;
  std::vector<float> feedback;    // [n, n]: row i, column j < i: C[j][i] / C[i][i]
  std::vector<float> diagonal;    // [n]: C[i][i]
  std::vector<float> importance;  // [n]: the Hessian's own diagonal, in ascending order always

  RoundFactor Columns(int64_t begin) const {
    return {feedback.data() + begin * n + begin, n, diagonal.data() + begin};
  }
};

// `damping` times the mean of the diagonal is added to it (Frantar et al. 2023, section 3.3: 0.01). Error
// kInvalidArgument: numbers that are not finite.
Result<HessianFactor> Factorize(ThreadPool& pool, const KernelTable& kernels, const Hessian& hessian,
                                ColumnOrder order = ColumnOrder::kAscending, float damping = 0.01f);

// The factor of S^-1 (H + damping) S^-1, S = diag(scales): of the inputs of weights whose columns were
// multiplied by `scales` [n], which are positive.
void ScaleColumns(std::span<const float> scales, HessianFactor& factor);

}  // namespace thimble

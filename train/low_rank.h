// The best matrix of a low rank, for adapters that start from something known.
#pragma once

#include "base/result.h"
#include "ops/tensor.h"

namespace thimble {

// B A near a matrix, and how much of it that is.
struct LowRank {
  Tensor a, b;          // [rank, cols], [rows, rank]: both have the roots of the singular values
  double captured = 0;  // of the sum of squares that is minimized, the share that B A takes away
};

// How an error E [rows, cols] counts: |diag(row_roots) E C|^2 in Frobenius' norm. What is unset is an
// identity.
struct ErrorNorm {
  Tensor row_roots;     // [1, rows], positive
  Tensor input_factor;  // C [cols, cols], upper triangular, not singular
};

// B A of the rank given that is nearest to m [rows, cols]: the truncated singular value decomposition of
// diag(row_roots) m C, by randomized subspace iteration (Halko, Martinsson & Tropp 2011, algorithms 4.4 and
// 5.1), with both factors taken back. The rank is less than both sides (CHECKed). One thread; the same each
// time.
LowRank NearestLowRank(const Tensor& m, int64_t rank, const ErrorNorm& norm = {});

}  // namespace thimble

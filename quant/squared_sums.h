// How far numbers are from what they were rounded to.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/kernels.h"

namespace thimble {

// Of n numbers: x - y, which overwrites y, and x. Where F32 holds no such sums, or x may be beyond `limit`
// (the error is then infinite), number by number.
struct SquaredSums {
  double error = 0, sum = 0;
};
SquaredSums MeasureSquaredSums(const KernelTable& kernels, const float* x, float* y, int64_t n,
                               float limit = std::numeric_limits<float>::max());

}  // namespace thimble

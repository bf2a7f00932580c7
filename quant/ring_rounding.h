// Rounding a block of T2 to T5 under feedback of its errors. For quant/feedback_rounding.cc.
#pragma once

#include <cstdint>

#include "codec/types.h"
#include "kernels/kernels.h"

namespace thimble {

constexpr int kRingBlock = 64;  // weights of a block, the most at a time

// n: kRingBlock, or half of it at a row's end. own: the weights of a row, x: the same with what the errors
// before the block add, both in the rings' order (ColumnOrder::kRings); `factor`: of these columns. Writes
// the block to `out` and own - what it decodes to, in the same order, to errors [n]; returns what it costs.
//
// The bits of a ring are those of the path whose errors, fed back on its own way, cost least: Viterbi's
// algorithm with a history for each state ("per-survivor processing", Raheli et al. 1995).
double RoundRingBlock(WeightType type, int n, const float* own, const float* x, const RoundFactor& factor,
                      uint8_t* out, float* errors);

}  // namespace thimble

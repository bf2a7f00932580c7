// Rounding weights onto a type's grid so that later columns make up for the errors of earlier ones.
#pragma once

#include <cstdint>

#include "codec/types.h"
#include "kernels/kernels.h"
#include "quant/hessian.h"

namespace thimble {

// w: up to kRoundRows rows of factor.n weights, `ldw` floats apart; `factor` is in OrderOf(type). Writes each
// row's RowBytes(type, n) bytes to `out`, one after another, and to costs[row] what its error e costs: e H
// e^T.
//
// Columns go in order; each is rounded with the errors so far fed back through the Hessian's factor (LDLQ,
// Chee et al. 2023; GPTQ, Frantar et al. 2023). The scale (and minimum) of each run of columns is the one of
// several that leaves the least cost with that feedback, solved for again once the points are known. Rings
// (T2 to T5) are found with the feedback within them. Types whose grid is a code book are rounded by the
// codec, without feedback. A row that lies on the type's grid already, as those of a dequantized model may,
// stays on it and costs nothing.
//
// Sums depend on the tier, so files from different processors may differ in a few weights.
void RoundWithFeedback(const KernelTable& kernels, WeightType type, int64_t rows, const float* w, int64_t ldw,
                       const HessianFactor& factor, uint8_t* out, double* costs);

// Likewise without feedback: as EncodeRow rounds with this importance (may be null).
void RoundAlone(const KernelTable& kernels, WeightType type, int64_t rows, const float* w, int64_t ldw,
                const HessianFactor& factor, const float* importance, uint8_t* out, double* costs);

}  // namespace thimble

// Scalar reference encode and decode of every weight type: the oracle for the kernels, and what the quantizer
// runs.
#pragma once

#include <cstdint>

#include "codec/types.h"

namespace thimble {

// dst[0..n) = the F32 values of a row of `n` weights. `n` must fit (RowFits); `src` holds
// RowBytes(type, n) bytes and need not be aligned. Matches gguf-py's dequantize (gguf/quants.py) bit for bit.
void DecodeRow(WeightType type, const void* src, float* dst, int64_t n);

// Rounds a row of `n` weights onto the type's grid, choosing scales (and minimums) that lessen the squared
// error. An error counts importance[i] times (where not null: mean squared activation of that input column),
// and somewhat more on large weights. Values that are not finite are treated as 0, and those beyond the
// type's range as its end.
void EncodeRow(WeightType type, const float* src, void* dst, int64_t n, const float* importance = nullptr);

}  // namespace thimble

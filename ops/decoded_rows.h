// Rows of a frozen weight in the memory of the thread that multiplies them: decoded to F32 or packed in BF16.
#pragma once

#include "ops/bf16_rows.h"
#include "ops/linear.h"

namespace thimble {

// Scratch memory that a thread keeps between calls.
float* Scratch(int64_t n);
// The same for packed rows, at a multiple of 64.
uint8_t* PackedScratch(size_t bytes);

// Rows [first, first + n) in F32: where they stand, or decoded to `scratch` [n, n_in].
const float* DecodedRows(const Context& ctx, const Weight& w, int64_t first, int64_t n, float* scratch);

// Whether products with the weight are those of Compute::kBf16.
bool IsDecodedToBf16(const Context& ctx, const Weight& w);

// Of a decoded weight, packed in BF16 at a time: what stays in the second-level cache.
constexpr int64_t kPackedWeights = 1 << 19;

constexpr int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace thimble

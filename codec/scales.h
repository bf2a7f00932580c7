// What all searches for scales share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/half.h"

namespace thimble {

// Below this no F16 scale brings a weight nearer than 0 does.
constexpr float kNegligible = 0x1p-26f;

// 1 / scale, or 0 for a scale that stands for none.
inline float Inverse(float scale) {
  return std::abs(scale) >= kNegligible ? 1 / scale : 0.0f;
}

// F16 bits of x, kept finite.
inline uint16_t ScaleToHalf(float x) {
  return FloatToHalf(std::clamp(x, -65504.0f, 65504.0f));
}

// The scale of a super-block whose n runs (8 or 16) have these scales or minimums of their own: values ~
// scale * integers of low..high, one of the ranges that GGUF's types have.
float FitCommonScale(int low, int high, int n, const float* values, const float* weights);

}  // namespace thimble

// Scales and minimums that fit a run of weights.
#pragma once

#include <cstdint>

namespace thimble {

struct ScaleMin {
  float scale, min;
};

// F16 bits of x, clamped to the finite range.
uint16_t ScaleToHalf(float x);

// A scale d such that x ~ d * q with integers q in [low, high].
float FitScale(const float* x, const float* w, int n, int low, int high);

// scale >= 0 and min such that x ~ scale * q + min with integers q in [0, top]. min <= 0 if `negative`.
ScaleMin FitScaleMin(const float* x, const float* w, int n, int top, bool negative);

// q = the nearest integers to x / d in [low, high], less low.
void Round(const float* x, int n, float d, int low, int high, uint8_t* q);

// q = the nearest integers to (x - m) / d in [0, top].
void RoundFrom(const float* x, int n, float d, float m, int top, uint8_t* q);

}  // namespace thimble

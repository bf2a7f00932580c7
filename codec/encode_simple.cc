#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "codec/encode.h"
#include "codec/fit.h"
#include "codec/planes.h"

namespace thimble {

void EncodeBlock(const float* x, const float* w, BlockQ4_0* block) {
  *block = {};
  block->d = ScaleToHalf(FitScale(x, w, 32, -8, 7));
  uint8_t q[32];
  Round(x, 32, HalfToFloat(block->d), -8, 7, q);
  PackPlanes<4, 16>(q, 32, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ5_0* block) {
  *block = {};
  block->d = ScaleToHalf(FitScale(x, w, 32, -16, 15));
  uint8_t q[32];
  Round(x, 32, HalfToFloat(block->d), -16, 15, q);
  PackPlanes<4, 16>(q, 32, block->qs);
  PackPlanes<1, 1>(q, 32, block->qh, 4);
}

void EncodeBlock(const float* x, const float* w, BlockQ8_0* block) {
  *block = {};
  block->d = ScaleToHalf(FitScale(x, w, 32, -127, 127));
  uint8_t q[32];
  Round(x, 32, HalfToFloat(block->d), -127, 127, q);
  for (int i = 0; i < 32; ++i) block->qs[i] = static_cast<int8_t>(q[i] - 127);
}

void EncodeBlock(const float* x, const float* w, BlockQ4_1* block) {
  *block = {};
  const ScaleMin fit = FitScaleMin(x, w, 32, 15, false);
  block->d = ScaleToHalf(fit.scale);
  block->m = ScaleToHalf(fit.min);
  uint8_t q[32];
  RoundFrom(x, 32, HalfToFloat(block->d), HalfToFloat(block->m), 15, q);
  PackPlanes<4, 16>(q, 32, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ5_1* block) {
  *block = {};
  const ScaleMin fit = FitScaleMin(x, w, 32, 31, false);
  block->d = ScaleToHalf(fit.scale);
  block->m = ScaleToHalf(fit.min);
  uint8_t q[32];
  RoundFrom(x, 32, HalfToFloat(block->d), HalfToFloat(block->m), 31, q);
  PackPlanes<4, 16>(q, 32, block->qs);
  PackPlanes<1, 1>(q, 32, block->qh, 4);
}

}  // namespace thimble

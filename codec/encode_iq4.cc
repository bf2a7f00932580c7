#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "codec/encode.h"
#include "codec/fit.h"
#include "codec/planes.h"

namespace thimble {
namespace {

void RoundIq4(const float* x, int n, float d, uint8_t* q) {
  const float inverse = d != 0 ? 1 / d : 0;
  for (int i = 0; i < n; ++i) {
    int best = 0;
    for (int k = 1; k < 16; ++k) {
      if (std::abs(x[i] * inverse - kIq4Values[k]) < std::abs(x[i] * inverse - kIq4Values[best])) best = k;
    }
    q[i] = static_cast<uint8_t>(best);
  }
}

}  // namespace

void EncodeBlock(const float* x, const float* w, BlockIQ4_NL* block) {
  *block = {};
  block->d = ScaleToHalf(FitScale(x, w, 32, -127, 113));
  uint8_t q[32];
  RoundIq4(x, 32, HalfToFloat(block->d), q);
  PackPlanes<4, 16>(q, 32, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockIQ4_XS* block) {
  *block = {};
  float d[8], ones[8];
  for (int j = 0; j < 8; ++j) {
    d[j] = FitScale(x + 32 * j, w + 32 * j, 32, -127, 113);
    ones[j] = 1;
  }
  block->d = ScaleToHalf(FitScale(d, ones, 8, -32, 31));
  uint8_t scales[8], q[256];
  Round(d, 8, HalfToFloat(block->d), -32, 31, scales);
  for (int j = 0; j < 8; ++j) {
    RoundIq4(x + 32 * j, 32, HalfToFloat(block->d) * static_cast<float>(scales[j] - 32), q + 32 * j);
  }
  PackPlanes<4, 16>(q, 256, block->qs);
  PackPlanes<4, 1>(scales, 8, block->scales_l);
  PackPlanes<2, 1>(scales, 8, block->scales_h, 4);
}

}  // namespace thimble

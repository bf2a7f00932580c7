#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "codec/encode.h"
#include "codec/fit.h"
#include "codec/planes.h"

namespace thimble {
namespace {

// Super-blocks of kSubs sub-blocks with scales only.
template <int kSubs, int kLow, int kHigh, int kScaleLow, int kScaleHigh>
uint16_t EncodeScales(const float* x, const float* w, uint8_t* scales, uint8_t* q) {
  constexpr int kSize = 256 / kSubs;
  float d[kSubs], ones[kSubs];
  for (int j = 0; j < kSubs; ++j) {
    d[j] = FitScale(x + kSize * j, w + kSize * j, kSize, kLow, kHigh);
    ones[j] = 1;
  }
  const uint16_t super = ScaleToHalf(FitScale(d, ones, kSubs, kScaleLow, kScaleHigh));
  Round(d, kSubs, HalfToFloat(super), kScaleLow, kScaleHigh, scales);
  for (int j = 0; j < kSubs; ++j) {
    Round(x + kSize * j, kSize, HalfToFloat(super) * static_cast<float>(scales[j] + kScaleLow), kLow, kHigh,
          q + kSize * j);
  }
  return super;
}

template <int kSubs, int kTop, int kScaleTop, typename Block>
void EncodeScaleMins(const float* x, const float* w, Block* block, uint8_t* scales, uint8_t* mins,
                     uint8_t* q) {
  constexpr int kSize = 256 / kSubs;
  float d[kSubs], m[kSubs], ones[kSubs];
  for (int j = 0; j < kSubs; ++j) {
    const ScaleMin fit = FitScaleMin(x + kSize * j, w + kSize * j, kSize, kTop, true);
    d[j] = fit.scale;
    m[j] = -fit.min;
    ones[j] = 1;
  }
  block->d = ScaleToHalf(FitScale(d, ones, kSubs, 0, kScaleTop));
  block->dmin = ScaleToHalf(FitScale(m, ones, kSubs, 0, kScaleTop));
  Round(d, kSubs, HalfToFloat(block->d), 0, kScaleTop, scales);
  Round(m, kSubs, HalfToFloat(block->dmin), 0, kScaleTop, mins);
  for (int j = 0; j < kSubs; ++j) {
    RoundFrom(x + kSize * j, kSize, HalfToFloat(block->d) * scales[j], -HalfToFloat(block->dmin) * mins[j],
              kTop, q + kSize * j);
  }
}

}  // namespace

void EncodeBlock(const float* x, const float* w, BlockQ2_K* block) {
  *block = {};
  uint8_t scales[16], mins[16], q[256];
  EncodeScaleMins<16, 3, 15>(x, w, block, scales, mins, q);
  for (int j = 0; j < 16; ++j) block->scales[j] = scales[j] | mins[j] << 4;
  PackPlanes<2, 32>(q, 256, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ3_K* block) {
  *block = {};
  uint8_t scales[16], q[256];
  block->d = EncodeScales<16, -4, 3, -32, 31>(x, w, scales, q);
  PackPlanes<4, 8>(scales, 16, block->scales);
  PackPlanes<2, 4>(scales, 16, block->scales + 8, 4);
  PackPlanes<2, 32>(q, 256, block->qs);
  PackPlanes<1, 32>(q, 256, block->hmask, 2);
}

void EncodeBlock(const float* x, const float* w, BlockQ4_K* block) {
  *block = {};
  uint8_t scales[8], mins[8], q[256];
  EncodeScaleMins<8, 15, 63>(x, w, block, scales, mins, q);
  PackScaleMins(scales, mins, block->scales);
  PackPlanes<4, 32>(q, 256, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ5_K* block) {
  *block = {};
  uint8_t scales[8], mins[8], q[256];
  EncodeScaleMins<8, 31, 63>(x, w, block, scales, mins, q);
  PackScaleMins(scales, mins, block->scales);
  PackPlanes<4, 32>(q, 256, block->qs);
  PackPlanes<1, 32>(q, 256, block->qh, 4);
}

void EncodeBlock(const float* x, const float* w, BlockQ6_K* block) {
  *block = {};
  uint8_t scales[16], q[256];
  block->d = EncodeScales<16, -32, 31, -128, 127>(x, w, scales, q);
  for (int j = 0; j < 16; ++j) block->scales[j] = static_cast<int8_t>(scales[j] - 128);
  PackPlanes<4, 64>(q, 256, block->ql);
  PackPlanes<2, 32>(q, 256, block->qh, 4);
}

}  // namespace thimble

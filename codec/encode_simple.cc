// Blocks of 32 with one scale, or a scale and a minimum.
#include "base/half.h"
#include "codec/encode.h"
#include "codec/fit.h"
#include "codec/planes.h"

namespace thimble {
namespace {

template <typename Grid>
uint16_t EncodeScale(const float* x, const float* w, uint8_t* q) {
  const uint16_t d = ScaleToHalf(FitScale<Grid, 32>(x, w).scale);
  RoundToCodes<Grid, 32>(x, HalfToFloat(d), 0, q);
  return d;
}

template <int kTop, typename Block>
void EncodeScaleMin(const float* x, const float* w, Block* block, uint8_t* q) {
  const ScaleMinFit fit = FitScaleMin<kTop, 32, false>(x, w);
  block->d = ScaleToHalf(fit.scale);
  block->m = ScaleToHalf(fit.min);
  RoundToCodes<Integers<0, kTop>, 32>(x, HalfToFloat(block->d), HalfToFloat(block->m), q);
}

}  // namespace

void EncodeBlock(const float* x, const float* w, BlockQ4_0* block) {
  *block = {};
  uint8_t q[32];
  block->d = EncodeScale<Integers<-8, 7>>(x, w, q);
  PackPlanes<4, 16>(q, 32, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ5_0* block) {
  *block = {};
  uint8_t q[32];
  block->d = EncodeScale<Integers<-16, 15>>(x, w, q);
  PackPlanes<4, 16>(q, 32, block->qs);
  PackPlanes<1, 1>(q, 32, block->qh, 4);
}

void EncodeBlock(const float* x, const float* w, BlockQ8_0* block) {
  uint8_t q[32];
  block->d = EncodeScale<Integers<-127, 127>>(x, w, q);
  for (int i = 0; i < 32; ++i) block->qs[i] = static_cast<int8_t>(q[i] - 127);
}

void EncodeBlock(const float* x, const float* w, BlockQ4_1* block) {
  *block = {};
  uint8_t q[32];
  EncodeScaleMin<15>(x, w, block, q);
  PackPlanes<4, 16>(q, 32, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ5_1* block) {
  *block = {};
  uint8_t q[32];
  EncodeScaleMin<31>(x, w, block, q);
  PackPlanes<4, 16>(q, 32, block->qs);
  PackPlanes<1, 1>(q, 32, block->qh, 4);
}

}  // namespace thimble

// Super-blocks of 256.
#include "codec/encode.h"
#include "codec/fit_super.h"
#include "codec/planes.h"

namespace thimble {

void EncodeBlock(const float* x, const float* w, BlockQ2_K* block) {
  *block = {};
  uint8_t scales[16], mins[16], q[256];
  const SuperMin super = FitSuperMin<3, 15, 16>(x, w, scales, mins, q);
  block->d = super.d;
  block->dmin = super.dmin;
  for (int j = 0; j < 16; ++j) block->scales[j] = scales[j] | mins[j] << 4;
  PackPlanes<2, 32>(q, 256, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ3_K* block) {
  *block = {};
  uint8_t scales[16], q[256];
  block->d = FitSuper<Integers<-4, 3>, Integers<-32, 31>, 16>(x, w, scales, q);
  PackPlanes<4, 8>(scales, 16, block->scales);
  PackPlanes<2, 4>(scales, 16, block->scales + 8, 4);
  PackPlanes<2, 32>(q, 256, block->qs);
  PackPlanes<1, 32>(q, 256, block->hmask, 2);
}

void EncodeBlock(const float* x, const float* w, BlockQ4_K* block) {
  *block = {};
  uint8_t scales[8], mins[8], q[256];
  const SuperMin super = FitSuperMin<15, 63, 8>(x, w, scales, mins, q);
  block->d = super.d;
  block->dmin = super.dmin;
  PackScaleMins(scales, mins, block->scales);
  PackPlanes<4, 32>(q, 256, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockQ5_K* block) {
  *block = {};
  uint8_t scales[8], mins[8], q[256];
  const SuperMin super = FitSuperMin<31, 63, 8>(x, w, scales, mins, q);
  block->d = super.d;
  block->dmin = super.dmin;
  PackScaleMins(scales, mins, block->scales);
  PackPlanes<4, 32>(q, 256, block->qs);
  PackPlanes<1, 32>(q, 256, block->qh, 4);
}

void EncodeBlock(const float* x, const float* w, BlockQ6_K* block) {
  *block = {};
  uint8_t scales[16], q[256];
  block->d = FitSuper<Integers<-32, 31>, Integers<-128, 127>, 16>(x, w, scales, q);
  for (int j = 0; j < 16; ++j) block->scales[j] = static_cast<int8_t>(scales[j] - 128);
  PackPlanes<4, 64>(q, 256, block->ql);
  PackPlanes<2, 32>(q, 256, block->qh, 4);
}

}  // namespace thimble

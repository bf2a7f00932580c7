// The non-linear 4-bit grid.
#include "base/half.h"
#include "codec/encode.h"
#include "codec/fit.h"
#include "codec/fit_super.h"
#include "codec/planes.h"

namespace thimble {

void EncodeBlock(const float* x, const float* w, BlockIQ4_NL* block) {
  *block = {};
  block->d = ScaleToHalf(FitScale<Iq4Grid, 32>(x, w).scale);
  uint8_t q[32];
  RoundToCodes<Iq4Grid, 32>(x, HalfToFloat(block->d), 0, q);
  PackPlanes<4, 16>(q, 32, block->qs);
}

void EncodeBlock(const float* x, const float* w, BlockIQ4_XS* block) {
  *block = {};
  uint8_t scales[8], q[256];
  block->d = FitSuper<Iq4Grid, Integers<-32, 31>, 8>(x, w, scales, q);
  PackPlanes<4, 16>(q, 256, block->qs);
  PackPlanes<4, 1>(scales, 8, block->scales_l);
  PackPlanes<2, 1>(scales, 8, block->scales_h, 4);
}

}  // namespace thimble

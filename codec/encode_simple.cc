// Blocks of 32 with one scale, or a scale and a minimum.
#include "base/half.h"
#include "codec/encode.h"
#include "codec/fit.h"
#include "codec/pack.h"

namespace thimble {
namespace {

template <typename Grid, typename Block>
void EncodeScale(const float* x, const float* w, Block* block) {
  BlockCodes codes;
  codes.d = ScaleToHalf(FitScale<Grid, 32>(x, w).scale);
  RoundToCodes<Grid, 32>(x, HalfToFloat(codes.d), 0, codes.q);
  PackBlock(codes, block);
}

template <int kTop, typename Block>
void EncodeScaleMin(const float* x, const float* w, Block* block) {
  const ScaleMinFit fit = FitScaleMin<kTop, 32, false>(x, w);
  BlockCodes codes;
  codes.d = ScaleToHalf(fit.scale);
  codes.m = ScaleToHalf(fit.min);
  RoundToCodes<Integers<0, kTop>, 32>(x, HalfToFloat(codes.d), HalfToFloat(codes.m), codes.q);
  PackBlock(codes, block);
}

}  // namespace

inline void EncodeBlock(const float* x, const float* w, BlockQ4_0* block) {
  EncodeScale<Integers<-8, 7>>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ5_0* block) {
  EncodeScale<Integers<-16, 15>>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ8_0* block) {
  EncodeScale<Integers<-127, 127>>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockIQ4_NL* block) {
  EncodeScale<Iq4Grid>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ4_1* block) {
  EncodeScaleMin<15>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ5_1* block) {
  EncodeScaleMin<31>(x, w, block);
}

template void EncodeBlocks<BlockQ4_0>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ4_1>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ5_0>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ5_1>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ8_0>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockIQ4_NL>(const float*, uint8_t*, int64_t, const float*);

}  // namespace thimble

// Super-blocks of 256.
#include "codec/encode.h"
#include "codec/fit_super.h"
#include "codec/pack.h"

namespace thimble {
namespace {

template <typename Grid, typename ScaleGrid, int kSubs, typename Block>
void EncodeSuper(const float* x, const float* w, Block* block) {
  BlockCodes codes;
  codes.d = FitSuper<Grid, ScaleGrid, kSubs>(x, w, codes.scales, codes.q);
  PackBlock(codes, block);
}

template <int kTop, int kScaleTop, int kSubs, typename Block>
void EncodeSuperMin(const float* x, const float* w, Block* block) {
  BlockCodes codes;
  const SuperMin super = FitSuperMin<kTop, kScaleTop, kSubs>(x, w, codes.scales, codes.mins, codes.q);
  codes.d = super.d;
  codes.m = super.dmin;
  PackBlock(codes, block);
}

}  // namespace

inline void EncodeBlock(const float* x, const float* w, BlockQ2_K* block) {
  EncodeSuperMin<3, 15, 16>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ3_K* block) {
  EncodeSuper<Integers<-4, 3>, Integers<-32, 31>, 16>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ4_K* block) {
  EncodeSuperMin<15, 63, 8>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ5_K* block) {
  EncodeSuperMin<31, 63, 8>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockQ6_K* block) {
  EncodeSuper<Integers<-32, 31>, Integers<-128, 127>, 16>(x, w, block);
}

inline void EncodeBlock(const float* x, const float* w, BlockIQ4_XS* block) {
  EncodeSuper<Iq4Grid, Integers<-32, 31>, 8>(x, w, block);
}

float FitCommonScale(int low, int high, int n, const float* values, const float* weights) {
  const auto fit = [&]<typename Grid>(Grid) {
    return n == 16 ? FitScale<Grid, 16, kScaleRounds>(values, weights).scale
                   : FitScale<Grid, 8, kScaleRounds>(values, weights).scale;
  };
  if (low == -128) return fit(Integers<-128, 127>());
  if (low == -32) return fit(Integers<-32, 31>());
  return high == 63 ? fit(Integers<0, 63>()) : fit(Integers<0, 15>());
}

template void EncodeBlocks<BlockQ2_K>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ3_K>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ4_K>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ5_K>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockQ6_K>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockIQ4_XS>(const float*, uint8_t*, int64_t, const float*);

}  // namespace thimble

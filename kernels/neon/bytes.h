// Lanes of bytes for NEON: four blocks side by side, 16 bytes of each. See kernels/generic/weights.inc.
#pragma once

#include "kernels/neon/quad.h"
#include "kernels/neon/simd.h"

namespace thimble {

struct Bytes {  // 4 lanes of 16 bytes
  uint8x16_t a, b, c, d;
};
struct Ints {  // 4 lanes of 4 int32
  int32x4_t a, b, c, d;
};
struct Floats {  // 4 lanes of 4 floats
  float32x4_t a, b, c, d;
};
using Sums = Quad;  // the sum of each lane

constexpr int kMaxActivationRows = 4;  // of a matmul tile: one accumulator each

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  const uint8_t* bytes = static_cast<const uint8_t*>(p);
  return {vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)};
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  memcpy(p, &x, sizeof(x));
}
// 16 bytes into each lane, `stride` bytes apart.
THIMBLE_INLINE Bytes LoadLanes(const uint8_t* p, ptrdiff_t stride) {
  return {vld1q_u8(p), vld1q_u8(p + stride), vld1q_u8(p + 2 * stride), vld1q_u8(p + 3 * stride)};
}
THIMBLE_INLINE Bytes EachLane(uint8x16_t x) {
  return {x, x, x, x};
}
// The same 16 bytes into each lane.
THIMBLE_INLINE Bytes BroadcastLane(const void* p) {
  return EachLane(LoadAs<uint8x16_t>(p));
}
// [x0, x2, y0, y2] and [x1, x3, y1, y3] of the lanes of x and y.
THIMBLE_INLINE void SplitLanes(Bytes x, Bytes y, Bytes* even, Bytes* odd) {
  *even = {x.a, x.c, y.a, y.c};
  *odd = {x.b, x.d, y.b, y.d};
}
// [x0, y0, x2, y2] and [x1, y1, x3, y3].
THIMBLE_INLINE void InterleaveLanes(Bytes x, Bytes y, Bytes* even, Bytes* odd) {
  *even = {x.a, y.a, x.c, y.c};
  *odd = {x.b, y.b, x.d, y.d};
}
// The first and the second 16 bytes of four blocks of 32 that lie `stride` bytes apart.
THIMBLE_INLINE void LoadHalves(const uint8_t* p, ptrdiff_t stride, Bytes* lo, Bytes* hi) {
  *lo = LoadLanes(p, stride);
  *hi = LoadLanes(p + 16, stride);
}

THIMBLE_INLINE Bytes And(Bytes x, int mask) {
  const uint8x16_t m = vdupq_n_u8(static_cast<uint8_t>(mask));
  return {vandq_u8(x.a, m), vandq_u8(x.b, m), vandq_u8(x.c, m), vandq_u8(x.d, m)};
}
THIMBLE_INLINE Bytes SubBytes(Bytes x, int y) {
  const uint8x16_t s = vdupq_n_u8(static_cast<uint8_t>(y));
  return {vsubq_u8(x.a, s), vsubq_u8(x.b, s), vsubq_u8(x.c, s), vsubq_u8(x.d, s)};
}
THIMBLE_INLINE Bytes Or(Bytes x, Bytes y) {
  return {vorrq_u8(x.a, y.a), vorrq_u8(x.b, y.b), vorrq_u8(x.c, y.c), vorrq_u8(x.d, y.d)};
}
THIMBLE_INLINE Bytes HighNibbles(Bytes x) {
  return {vshrq_n_u8(x.a, 4), vshrq_n_u8(x.b, 4), vshrq_n_u8(x.c, 4), vshrq_n_u8(x.d, 4)};
}
// Lane b: the bits 2b and 2b + 1 of each byte, as a number below 4.
THIMBLE_INLINE Bytes BitPairs(Bytes x) {
  return And({x.a, vshrq_n_u8(x.b, 2), vshrq_n_u8(x.c, 4), vshrq_n_u8(x.d, 6)}, 3);
}
THIMBLE_INLINE Bytes TimesSixteen(Bytes x) {  // x < 16
  return {vshlq_n_u8(x.a, 4), vshlq_n_u8(x.b, 4), vshlq_n_u8(x.c, 4), vshlq_n_u8(x.d, 4)};
}
// Adds `value`, a bit that is not set in x, to the bytes where `source` has one of the bits of `select`.
THIMBLE_INLINE Bytes SetBitWhere(Bytes x, Bytes source, Bytes select, int value) {
  const Bytes where = {vtstq_u8(source.a, select.a), vtstq_u8(source.b, select.b),
                       vtstq_u8(source.c, select.c), vtstq_u8(source.d, select.d)};
  return Or(x, And(where, value));
}
// Lane b: bit `first` + b in every byte.
THIMBLE_INLINE Bytes LaneBits(int first) {
  return {vdupq_n_u8(static_cast<uint8_t>(1 << first)), vdupq_n_u8(static_cast<uint8_t>(2 << first)),
          vdupq_n_u8(static_cast<uint8_t>(4 << first)), vdupq_n_u8(static_cast<uint8_t>(8 << first))};
}
THIMBLE_INLINE Bytes Lookup(Bytes table, Bytes index) {
  return {vqtbl1q_u8(table.a, index.a), vqtbl1q_u8(table.b, index.b), vqtbl1q_u8(table.c, index.c),
          vqtbl1q_u8(table.d, index.d)};
}
THIMBLE_INLINE uint8x16_t FourBytes(const uint8_t* p) {
  return vreinterpretq_u8_u32(vdupq_n_u32(LoadAs<uint32_t>(p)));
}
// Lane b: the four bytes at p + b * stride, bytes 0 (or 2) and 1 (or 3) eight times each.
THIMBLE_INLINE void SpreadBitBytes(const uint8_t* p, ptrdiff_t stride, Bytes* first, Bytes* second) {
  const Bytes lanes = {FourBytes(p), FourBytes(p + stride), FourBytes(p + 2 * stride),
                       FourBytes(p + 3 * stride)};
  *first = Lookup(lanes, EachLane(vcombine_u8(vdup_n_u8(0), vdup_n_u8(1))));
  *second = Lookup(lanes, EachLane(vcombine_u8(vdup_n_u8(2), vdup_n_u8(3))));
}

// --- Products. All weights fit int8, which is what the instructions take.
constexpr int kWideOffset = 0;
THIMBLE_INLINE Bytes ToWide(Bytes x) {
  return x;
}
THIMBLE_INLINE Bytes FromWide(Bytes x) {
  return x;
}
THIMBLE_INLINE Ints IntsZero() {
  const int32x4_t zero = vdupq_n_s32(0);
  return {zero, zero, zero, zero};
}
THIMBLE_INLINE Ints IntsLoad(const int32_t* p) {
  return {vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)};
}
THIMBLE_INLINE int8x16_t AsSigned(uint8x16_t x) {
  return vreinterpretq_s8_u8(x);
}
#if defined(__ARM_FEATURE_DOTPROD)
THIMBLE_INLINE int32x4_t DotLane(int32x4_t init, uint8x16_t w, uint8x16_t x) {
  return vdotq_s32(init, AsSigned(w), AsSigned(x));
}
template <bool kWide>
THIMBLE_INLINE int32x4_t DotLane2(int32x4_t init, uint8x16_t w0, uint8x16_t x0, uint8x16_t w1,
                                  uint8x16_t x1) {
  return DotLane(DotLane(init, w0, x0), w1, x1);
}
#else
// Two products add up in int16: 2 * 128 * 127 fits.
THIMBLE_INLINE int16x8_t PairSums(int8x16_t w, int8x16_t x) {
  return vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x);
}
THIMBLE_INLINE int32x4_t DotLane(int32x4_t init, uint8x16_t w, uint8x16_t x) {
  return vpadalq_s16(init, PairSums(AsSigned(w), AsSigned(x)));
}
template <bool kWide>
THIMBLE_INLINE int32x4_t DotLane2(int32x4_t init, uint8x16_t w0, uint8x16_t x0, uint8x16_t w1,
                                  uint8x16_t x1) {
  if constexpr (kWide) return DotLane(DotLane(init, w0, x0), w1, x1);
  // 4 * 63 * 127 still fits.
  int16x8_t pairs = PairSums(AsSigned(w0), AsSigned(x0));
  pairs = vmlal_s8(pairs, vget_low_s8(AsSigned(w1)), vget_low_s8(AsSigned(x1)));
  return vpadalq_s16(init, vmlal_high_s8(pairs, AsSigned(w1), AsSigned(x1)));
}
#endif
// init + each lane's four partial sums of w * x. Weights are below 64, or use all of int8 if kWide.
template <bool kWide>
THIMBLE_INLINE Ints DotBytes(Ints init, Bytes w, Bytes x) {
  return {DotLane(init.a, w.a, x.a), DotLane(init.b, w.b, x.b), DotLane(init.c, w.c, x.c),
          DotLane(init.d, w.d, x.d)};
}
// init + w0 * x0 + w1 * x1
template <bool kWide>
THIMBLE_INLINE Ints DotBytes2(Ints init, Bytes w0, Bytes x0, Bytes w1, Bytes x1) {
  return {DotLane2<kWide>(init.a, w0.a, x0.a, w1.a, x1.a), DotLane2<kWide>(init.b, w0.b, x0.b, w1.b, x1.b),
          DotLane2<kWide>(init.c, w0.c, x0.c, w1.c, x1.c), DotLane2<kWide>(init.d, w0.d, x0.d, w1.d, x1.d)};
}

// --- The sums of four lanes.
THIMBLE_INLINE Sums SumsZero() {
  return QuadZero();
}
THIMBLE_INLINE Sums ToSums(Ints x) {
  return vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(x.a, x.b), vpaddq_s32(x.c, x.d)));
}
// The numbers that lie four times each at p.
THIMBLE_INLINE Sums SumsLoad(const float* p) {
  return vld4q_f32(p).val[0];
}
THIMBLE_INLINE Sums Spread(Quad q) {
  return q;
}
THIMBLE_INLINE Sums SumsMul(Sums a, Sums b) {
  return QuadMul(a, b);
}
THIMBLE_INLINE Sums SumsFma(Sums a, Sums b, Sums c) {
  return QuadFma(a, b, c);
}
THIMBLE_INLINE Sums SubQuad(Sums x, Quad q) {
  return vsubq_f32(x, q);
}
THIMBLE_INLINE float SumsTotal(Sums x) {
  return VecSum(x);
}
THIMBLE_INLINE void SumsTotal4(const Sums x[4], float totals[4]) {
  VecSum4(x, totals);
}

// --- Four lanes of four floats.
THIMBLE_INLINE void FloatsStore(float* p, Floats x) {
  memcpy(p, &x, sizeof(x));
}
THIMBLE_INLINE Floats FloatsFromInt8(const int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_high_s8(x);
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
          vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))};
}
THIMBLE_INLINE Floats FloatsSet(float x) {
  const float32x4_t all = vdupq_n_f32(x);
  return {all, all, all, all};
}
THIMBLE_INLINE Floats FloatsMul(Floats x, Floats y) {
  return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
THIMBLE_INLINE Floats FloatsSub(Floats x, Floats y) {
  return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}

// --- Activations.
THIMBLE_INLINE Floats FloatsLoadUnaligned(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
THIMBLE_INLINE int32x4_t Magnitude(float32x4_t x) {
  return vreinterpretq_s32_f32(vabsq_f32(x));
}
THIMBLE_INLINE int32x4_t HighestMagnitudes(Floats x) {
  return vmaxq_s32(vmaxq_s32(Magnitude(x.a), Magnitude(x.b)), vmaxq_s32(Magnitude(x.c), Magnitude(x.d)));
}
THIMBLE_INLINE int32_t HighestMagnitudeBits(Floats x, Floats y) {
  return vmaxvq_s32(vmaxq_s32(HighestMagnitudes(x), HighestMagnitudes(y)));
}
THIMBLE_INLINE int16x8_t RoundedShorts(float32x4_t low, float32x4_t high) {
  return vcombine_s16(vmovn_s32(vcvtnq_s32_f32(low)), vmovn_s32(vcvtnq_s32_f32(high)));
}
// Rounds to the nearest even, stores as bytes and returns the sum of them.
THIMBLE_INLINE int16_t StoreRounded(Floats x, int8_t* q) {
  const int16x8_t low = RoundedShorts(x.a, x.b), high = RoundedShorts(x.c, x.d);
  vst1q_s8(q, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
  return vaddvq_s16(vaddq_s16(low, high));
}

}  // namespace thimble

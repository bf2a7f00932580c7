// The vector vocabulary that kernels/generic/ is written in, for NEON as every 64-bit ARM has it (ARMv8.0).
#pragma once

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/generic/macros.h"

// A tier with more instructions names itself before it includes this.
#ifndef THIMBLE_TIER
#define THIMBLE_TIER neon
#endif

namespace thimble {

// --- Native float vectors.
using Vec = float32x4_t;
constexpr int kLanes = 4;

// Register blocking of the gemm micro-kernel: kGemmRows x kGemmVecs accumulators (of 32 registers), or a
// wider one for few rows.
constexpr int kGemmRows = 6;
constexpr int kGemmVecs = 4;
constexpr int kWideRows = 2;
constexpr int kWideVecs = 8;

THIMBLE_INLINE Vec VecZero() {
  return vdupq_n_f32(0.0f);
}
THIMBLE_INLINE Vec VecSet(float x) {
  return vdupq_n_f32(x);
}
THIMBLE_INLINE Vec VecLoad(const float* p) {
  return vld1q_f32(p);
}
// Holds v in a register where the compiler might load it again for each use.
THIMBLE_INLINE void VecHold(Vec& v) {
  asm("" : "+w"(v));
}
THIMBLE_INLINE void VecStore(float* p, Vec v) {
  vst1q_f32(p, v);
}
// The first `count` (0..4) lanes; the others load as 0.
THIMBLE_INLINE Vec VecLoadPart(const float* p, int64_t count) {
  Vec v = VecZero();
  if (count > 0) v = vld1q_lane_f32(p, v, 0);
  if (count > 1) v = vld1q_lane_f32(p + 1, v, 1);
  if (count > 2) v = vld1q_lane_f32(p + 2, v, 2);
  if (count > 3) v = vld1q_lane_f32(p + 3, v, 3);
  return v;
}
THIMBLE_INLINE void VecStorePart(float* p, Vec v, int64_t count) {
  if (count > 0) vst1q_lane_f32(p, v, 0);
  if (count > 1) vst1q_lane_f32(p + 1, v, 1);
  if (count > 2) vst1q_lane_f32(p + 2, v, 2);
  if (count > 3) vst1q_lane_f32(p + 3, v, 3);
}
// kLanes F16 or BF16 numbers.
THIMBLE_INLINE Vec VecLoadF16(const void* p) {
  return vcvt_f32_f16(LoadAs<float16x4_t>(p));
}
THIMBLE_INLINE void VecStoreF16(void* p, Vec v) {
  const float16x4_t half = vcvt_f16_f32(v);
  memcpy(p, &half, sizeof(half));
}
THIMBLE_INLINE Vec VecLoadBf16(const void* p) {
  return vreinterpretq_f32_u32(vshll_n_u16(LoadAs<uint16x4_t>(p), 16));
}
THIMBLE_INLINE Vec VecAdd(Vec a, Vec b) {
  return vaddq_f32(a, b);
}
THIMBLE_INLINE Vec VecSub(Vec a, Vec b) {
  return vsubq_f32(a, b);
}
THIMBLE_INLINE Vec VecMul(Vec a, Vec b) {
  return vmulq_f32(a, b);
}
// 1 / x for x in [1, 2^127].
THIMBLE_INLINE Vec VecReciprocal(Vec x) {
  return vdivq_f32(vdupq_n_f32(1.0f), x);
}
THIMBLE_INLINE Vec VecMax(Vec a, Vec b) {
  return vmaxq_f32(a, b);
}
THIMBLE_INLINE Vec VecMin(Vec a, Vec b) {
  return vminq_f32(a, b);
}
THIMBLE_INLINE Vec VecFma(Vec a, Vec b, Vec c) {
  return vfmaq_f32(c, a, b);
}  // a * b + c
THIMBLE_INLINE Vec VecFnma(Vec a, Vec b, Vec c) {
  return vfmsq_f32(c, a, b);
}  // c - a * b
THIMBLE_INLINE Vec VecRound(Vec x) {
  return vrndnq_f32(x);
}
// x * 2^n for whole n in [-252, 254]: in two steps, as 2^n alone may not be a normal number.
THIMBLE_INLINE Vec VecScale2(Vec x, Vec n) {
  const int32x4_t whole = vcvtnq_s32_f32(n);
  const int32x4_t first = vshrq_n_s32(whole, 1);
  const int32x4_t second = vsubq_s32(whole, first);
  const int32x4_t bias = vdupq_n_s32(127);
  const Vec a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(first, bias), 23));
  const Vec b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(second, bias), 23));
  return vmulq_f32(vmulq_f32(x, a), b);
}
// The first `count` lanes of a (none if it is negative, at most all), the others of b.
THIMBLE_INLINE Vec VecFirst(int count, Vec a, Vec b) {
  const int32x4_t lanes = {0, 1, 2, 3};
  return vbslq_f32(vcltq_s32(lanes, vdupq_n_s32(count)), a, b);
}
// Lanes 2i and 2i + 1 change places.
THIMBLE_INLINE Vec VecSwapNeighbours(Vec v) {
  return vrev64q_f32(v);
}
// In the order of VecSum4: pairs first.
THIMBLE_INLINE float VecSum(Vec v) {
  return vaddvq_f32(v);
}
THIMBLE_INLINE float VecMaxLane(Vec v) {
  return vmaxvq_f32(v);
}

// sums[i] = the sum of v[i]'s lanes.
THIMBLE_INLINE void VecSum4(const Vec v[4], float sums[4]) {
  vst1q_f32(sums, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
}

THIMBLE_INLINE Vec LowHalves(Vec a, Vec b) {
  return vcombine_f32(vget_low_f32(a), vget_low_f32(b));
}
THIMBLE_INLINE Vec HighHalves(Vec a, Vec b) {
  return vcombine_f32(vget_high_f32(a), vget_high_f32(b));
}
THIMBLE_INLINE void VecTranspose(Vec r[kLanes]) {
  const Vec even01 = vtrn1q_f32(r[0], r[1]), odd01 = vtrn2q_f32(r[0], r[1]);
  const Vec even23 = vtrn1q_f32(r[2], r[3]), odd23 = vtrn2q_f32(r[2], r[3]);
  r[0] = LowHalves(even01, even23);
  r[1] = LowHalves(odd01, odd23);
  r[2] = HighHalves(even01, even23);
  r[3] = HighHalves(odd01, odd23);
}

}  // namespace thimble

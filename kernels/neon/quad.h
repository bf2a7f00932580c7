// Four floats at a time: the scales of four blocks.
#pragma once

#include "kernels/neon/simd.h"

namespace thimble {

using Quad = float32x4_t;

THIMBLE_INLINE float HalfAt(const uint8_t* p) {
  const float16x4_t half = vreinterpret_f16_u16(vdup_n_u16(LoadAs<uint16_t>(p)));
  return vgetq_lane_f32(vcvt_f32_f16(half), 0);
}
THIMBLE_INLINE Quad QuadSet(float x) {
  return vdupq_n_f32(x);
}
THIMBLE_INLINE Quad QuadZero() {
  return vdupq_n_f32(0.0f);
}
THIMBLE_INLINE Quad QuadLoad(const float* p) {
  return vld1q_f32(p);
}
THIMBLE_INLINE void QuadStore(float* p, Quad q) {
  vst1q_f32(p, q);
}
THIMBLE_INLINE Quad QuadMul(Quad a, Quad b) {
  return vmulq_f32(a, b);
}
THIMBLE_INLINE Quad QuadFma(Quad a, Quad b, Quad c) {
  return vfmaq_f32(c, a, b);
}
THIMBLE_INLINE Quad QuadNegate(Quad a) {
  return vnegq_f32(a);
}

// Four F16 numbers, `stride` bytes apart.
THIMBLE_INLINE Quad QuadHalves(const uint8_t* p, ptrdiff_t stride) {
  uint16x4_t halves = vdup_n_u16(LoadAs<uint16_t>(p));
  halves = vset_lane_u16(LoadAs<uint16_t>(p + stride), halves, 1);
  halves = vset_lane_u16(LoadAs<uint16_t>(p + 2 * stride), halves, 2);
  halves = vset_lane_u16(LoadAs<uint16_t>(p + 3 * stride), halves, 3);
  return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

// The four bytes of `bytes`, unsigned, less `bias`.
THIMBLE_INLINE Quad QuadBytes(uint32_t bytes, int bias) {
  const uint16x4_t shorts = vget_low_u16(vmovl_u8(vcreate_u8(bytes)));
  return vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(vmovl_u16(shorts)), vdupq_n_s32(bias)));
}

// The bytes at even and at odd places of `bytes`, unsigned, less `bias`.
THIMBLE_INLINE void QuadBytePairs(uint64_t bytes, int bias, Quad* even, Quad* odd) {
  const int32x4_t words = vreinterpretq_s32_u32(vmovl_u16(vcreate_u16(bytes)));
  const int32x4_t biases = vdupq_n_s32(bias);
  *even = vcvtq_f32_s32(vsubq_s32(vandq_s32(words, vdupq_n_s32(0xff)), biases));
  *odd = vcvtq_f32_s32(vsubq_s32(vshrq_n_s32(words, 8), biases));
}

}  // namespace thimble

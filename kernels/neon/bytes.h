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
// The same for two pairs of lanes, each with its second one `second` bytes after the first.
THIMBLE_INLINE Bytes LoadLanePairs(const uint8_t* p, ptrdiff_t second, ptrdiff_t stride) {
  return {vld1q_u8(p), vld1q_u8(p + second), vld1q_u8(p + stride), vld1q_u8(p + stride + second)};
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
THIMBLE_INLINE Bytes AddBytes(Bytes x, Bytes y) {
  return {vaddq_u8(x.a, y.a), vaddq_u8(x.b, y.b), vaddq_u8(x.c, y.c), vaddq_u8(x.d, y.d)};
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

// The 16 bytes from byte kFrom on of each lane of x and, after it, that of y.
template <int kFrom>
THIMBLE_INLINE Bytes JoinLanes(Bytes x, Bytes y) {
  return {vextq_u8(x.a, y.a, kFrom), vextq_u8(x.b, y.b, kFrom), vextq_u8(x.c, y.c, kFrom),
          vextq_u8(x.d, y.d, kFrom)};
}
// Words of 32 bits, each shifted by a count of its own.
THIMBLE_INLINE uint8x16_t ShiftLeft(uint8x16_t x, int32x4_t counts) {
  return vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(x), counts));
}
THIMBLE_INLINE Bytes ShiftLeft(Bytes x, Bytes counts) {
  return {ShiftLeft(x.a, vreinterpretq_s32_u8(counts.a)), ShiftLeft(x.b, vreinterpretq_s32_u8(counts.b)),
          ShiftLeft(x.c, vreinterpretq_s32_u8(counts.c)), ShiftLeft(x.d, vreinterpretq_s32_u8(counts.d))};
}
THIMBLE_INLINE uint8x16_t ShiftRight(uint8x16_t x, uint8x16_t counts) {
  return ShiftLeft(x, vnegq_s32(vreinterpretq_s32_u8(counts)));
}
THIMBLE_INLINE Bytes ShiftRight(Bytes x, Bytes counts) {
  return {ShiftRight(x.a, counts.a), ShiftRight(x.b, counts.b), ShiftRight(x.c, counts.c),
          ShiftRight(x.d, counts.d)};
}
// Bytes 0, 2, ... of the one and bytes 1, 3, ... of the other.
THIMBLE_INLINE Bytes EvenAndOdd(Bytes even, Bytes odd) {
  const uint8x16_t select = vreinterpretq_u8_u16(vdupq_n_u16(0xff));
  return {vbslq_u8(select, even.a, odd.a), vbslq_u8(select, even.b, odd.b), vbslq_u8(select, even.c, odd.c),
          vbslq_u8(select, even.d, odd.d)};
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

// Four weight rows side by side, for NEON, with SDOT and SMMLA where the unit is compiled for them. See
// kernels/generic/packed.inc.
#pragma once

#include "codec/trellis.h"
#include "kernels/neon/simd.h"

namespace thimble {

using Bytes = uint8x16_t;  // four columns of each row
using Ints = int32x4_t;    // one per row
constexpr int kRows = kLanes;
constexpr int kMaxColumns = 8;     // activation rows of a tile: one accumulator each
constexpr int kColumnsAtOnce = 2;  // of these, that a vector of weights meets before the next one

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  return vld1q_u8(static_cast<const uint8_t*>(p));
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  vst1q_u8(static_cast<uint8_t*>(p), x);
}
// The address p, in an instruction that the compiler keeps behind those that x comes from.
THIMBLE_INLINE const uint8_t* After(Bytes& x, const uint8_t* p) {
  asm volatile("" : "+w"(x), "+r"(p));
  return p;
}
// Bits `from` and up of each byte moved to `to`, where `mask` selects them.
THIMBLE_INLINE Bytes MoveBits(Bytes x, int from, int to, int mask) {
  const Bytes moved = from == to ? x : vshlq_u8(x, vdupq_n_s8(static_cast<int8_t>(to - from)));
  return vandq_u8(moved, vdupq_n_u8(static_cast<uint8_t>(mask)));
}
THIMBLE_INLINE Bytes Or(Bytes x, Bytes y) {
  return vorrq_u8(x, y);
}
// table[index], for 16 values.
THIMBLE_INLINE Bytes Lookup(const uint8_t* table, Bytes index) {
  return vqtbl1q_u8(vld1q_u8(table), index);
}

// An index into a table of 2^kIndexBits values: the bits of each byte from `from` on.
constexpr int kIndexBits = 4;
THIMBLE_INLINE Bytes IndexAt(Bytes x, int from) {
  return from == 4 ? vshrq_n_u8(x, 4) : MoveBits(x, from, 0, 15);
}
THIMBLE_INLINE Bytes LookupIndex(const uint8_t* table, Bytes index) {
  return Lookup(table, index);
}
// IndexAt(x, from), with the bits below `split` taken from the beginning of `next`.
THIMBLE_INLINE Bytes JoinIndices(Bytes x, int from, Bytes next, int split) {
  return vbslq_u8(vdupq_n_u8(static_cast<uint8_t>((1 << split) - 1)), next, IndexAt(x, from));
}

THIMBLE_INLINE Bytes AddBytes(Bytes x, Bytes y) {
  return vaddq_u8(x, y);
}
// Of each row column j + 1 in column j's place, and column 0 in column 3's.
THIMBLE_INLINE Bytes NextColumns(Bytes x) {
  const uint32x4_t rows = vreinterpretq_u32_u8(x);
  return vreinterpretq_u8_u32(vsliq_n_u32(vshrq_n_u32(rows, 8), rows, 24));
}

// All weights fit int8, which is what the instructions take.
constexpr int kWideOffset = 0;
THIMBLE_INLINE Bytes ToWide(Bytes x) {
  return x;
}
THIMBLE_INLINE int8x16_t AsSigned(uint8x16_t x) {
  return vreinterpretq_s8_u8(x);
}
// init + the products of the columns in w, n vectors, with x. Weights are at most kMax, or in ToWide's form.
template <int kMax, int n>
THIMBLE_INLINE Ints DotColumns(Ints init, const Bytes* w, const int8_t* x) {
#if defined(__ARM_FEATURE_DOTPROD)
  static_assert(n % 4 == 0);
  THIMBLE_UNROLL
  for (int i = 0; i < n; i += 4) {
    const int8x16_t columns = vld1q_s8(x + 4 * i);
    init = vdotq_laneq_s32(init, AsSigned(w[i]), columns, 0);
    init = vdotq_laneq_s32(init, AsSigned(w[i + 1]), columns, 1);
    init = vdotq_laneq_s32(init, AsSigned(w[i + 2]), columns, 2);
    init = vdotq_laneq_s32(init, AsSigned(w[i + 3]), columns, 3);
  }
#else
  THIMBLE_UNROLL
  for (int i = 0; i < n; ++i) {
    const int8x16_t columns = vreinterpretq_s8_s32(vdupq_n_s32(LoadAs<int32_t>(x + 4 * i)));
    const int16x8_t low = vmull_s8(vget_low_s8(AsSigned(w[i])), vget_low_s8(columns));
    const int16x8_t high = vmull_high_s8(AsSigned(w[i]), columns);
    init = vpadalq_s16(init, vpaddq_s16(low, high));  // 2 * 128 * 127 fits int16
  }
#endif
  return init;
}
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define THIMBLE_DOT_PAIRS
// The same for two activation rows at once: SMMLA multiplies 8 columns of each of two weight rows with 8 of
// each.
template <int n>
THIMBLE_INLINE void DotColumnPairs(const Bytes* w, const int8_t* x, const int8_t* y, Ints* with_x,
                                   Ints* with_y) {
  Ints first = vdupq_n_s32(0), second = first;  // [row 0 x, row 0 y, row 1 x, row 1 y], and of rows 2 and 3
  THIMBLE_UNROLL
  for (int i = 0; i < n; i += 2) {
    const uint32x4_t a = vreinterpretq_u32_u8(w[i]), b = vreinterpretq_u32_u8(w[i + 1]);
    const int8x16_t both = vcombine_s8(vld1_s8(x + 4 * i), vld1_s8(y + 4 * i));
    first = vmmlaq_s32(first, vreinterpretq_s8_u32(vzip1q_u32(a, b)), both);
    second = vmmlaq_s32(second, vreinterpretq_s8_u32(vzip2q_u32(a, b)), both);
  }
  *with_x = vaddq_s32(*with_x, vuzp1q_s32(first, second));
  *with_y = vaddq_s32(*with_y, vuzp2q_s32(first, second));
}
#endif
// x << shift for every row.
THIMBLE_INLINE Ints IntsSet(int32_t x, int shift) {
  return vdupq_n_s32(x << shift);
}
THIMBLE_INLINE Ints IntsZero() {
  return vdupq_n_s32(0);
}

THIMBLE_INLINE Vec ToVec(Ints x) {
  return vcvtq_f32_s32(x);
}
// One byte of each row.
THIMBLE_INLINE Vec VecFromInt8(const uint8_t* p) {
  const int16x8_t shorts = vmovl_s8(vcreate_s8(LoadAs<uint32_t>(p)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(shorts)));
}
// TrellisScale (codec/trellis.h) of the byte of each row.
THIMBLE_INLINE Vec VecFromSmallFloats(const uint8_t* p) {
  const uint32x4_t bytes = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(LoadAs<uint32_t>(p)))));
  return vreinterpretq_f32_u32(vaddq_u32(vshlq_n_u32(bytes, kScaleShift), vdupq_n_u32(kScaleBase)));
}
// The low or the high nibble of the byte of each row.
THIMBLE_INLINE Vec VecFromNibbles(const uint8_t* p, int shift) {
  const uint32_t nibbles = LoadAs<uint32_t>(p) >> shift & 0x0f0f0f0fu;
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(nibbles)))));
}

}  // namespace thimble

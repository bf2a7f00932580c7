// Sixteen weight rows side by side, for AVX-512 + VNNI. See kernels/generic/packed.inc.
#pragma once

#include "kernels/avx512/simd.h"

namespace thimble {

using Bytes = __m512i;  // four columns of each row
using Ints = __m512i;   // one per row
constexpr int kRows = kLanes;
constexpr int kMaxColumns = 12;  // activation rows of a tile: one accumulator each

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  return _mm512_load_si512(p);
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  _mm512_store_si512(p, x);
}
// Bits `from` and up of each byte moved to `to`, where `mask` selects them.
THIMBLE_INLINE Bytes MoveBits(Bytes x, int from, int to, int mask) {
  const Bytes moved = from >= to ? _mm512_srli_epi16(x, static_cast<unsigned>(from - to))
                                 : _mm512_slli_epi16(x, static_cast<unsigned>(to - from));
  return _mm512_and_si512(moved, _mm512_set1_epi8(static_cast<char>(mask)));
}
THIMBLE_INLINE Bytes Or(Bytes x, Bytes y) {
  return _mm512_or_si512(x, y);
}
// table[index], for 16 values.
THIMBLE_INLINE Bytes Lookup(const uint8_t* table, Bytes index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(LoadAs<__m128i_u>(table)), index);
}

// dpbusd takes unsigned weights, so weights that use all of int8 are stored with an offset of 128.
constexpr int kWideOffset = 128;
THIMBLE_INLINE Bytes ToWide(Bytes x) {
  return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}
// init + the products of four columns each, w in ToWide's form or not.
THIMBLE_INLINE Ints DotBytes(Ints init, Bytes w, Bytes x) {
  return _mm512_dpbusd_epi32(init, w, x);
}
// init + the products of the columns in w, n vectors, with x. Weights are at most kMax, or in ToWide's form.
template <int kMax, int n>
THIMBLE_INLINE Ints DotColumns(Ints init, const Bytes* w, const int8_t* x) {
  THIMBLE_UNROLL
  for (int i = 0; i < n; ++i) init = DotBytes(init, w[i], _mm512_set1_epi32(LoadAs<int32_t>(x + 4 * i)));
  return init;
}
// x << shift for every row.
THIMBLE_INLINE Ints IntsSet(int32_t x, int shift) {
  return _mm512_slli_epi32(_mm512_set1_epi32(x), static_cast<unsigned>(shift));
}
THIMBLE_INLINE Ints IntsZero() {
  return _mm512_setzero_si512();
}

THIMBLE_INLINE Vec ToVec(Ints x) {
  return _mm512_cvtepi32_ps(x);
}
// One byte of each row.
THIMBLE_INLINE Vec VecFromInt8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(LoadAs<__m128i_u>(p)));
}
// The low or the high nibble of the byte of each row.
THIMBLE_INLINE Vec VecFromNibbles(const uint8_t* p, int shift) {
  const __m512i bytes = _mm512_cvtepu8_epi32(LoadAs<__m128i_u>(p));
  return _mm512_cvtepi32_ps(
      _mm512_and_si512(_mm512_srli_epi32(bytes, static_cast<unsigned>(shift)), _mm512_set1_epi32(15)));
}

}  // namespace thimble

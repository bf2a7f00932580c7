// Sixteen weight rows side by side, for AVX-512 + VNNI, with VBMI where the unit is compiled for it. See
// kernels/generic/packed.inc.
#pragma once

#include "codec/trellis.h"
#include "kernels/avx512/simd.h"

namespace thimble {

using Bytes = __m512i;  // four columns of each row
using Ints = __m512i;   // one per row
constexpr int kRows = kLanes;
constexpr int kMaxColumns = 12;              // activation rows of a tile: one accumulator each
constexpr int kColumnsAtOnce = kMaxColumns;  // of these, that a vector of weights meets before the next one

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  return _mm512_load_si512(p);
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  _mm512_store_si512(p, x);
}
// The address p, in an instruction that the compiler keeps behind those that x comes from.
THIMBLE_INLINE const uint8_t* After(Bytes& x, const uint8_t* p) {
  asm volatile("" : "+v"(x), "+r"(p));
  return p;
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

// An index into a table of 2^kIndexBits values: the bits of each byte from `from` on, in its low bits.
#if defined(__AVX512VBMI__)
constexpr int kIndexBits = 6;  // what stands above them is ignored
THIMBLE_INLINE Bytes IndexAt(Bytes x, int from) {
  return from == 0 ? x : _mm512_srli_epi16(x, static_cast<unsigned>(from));
}
THIMBLE_INLINE Bytes LookupIndex(const uint8_t* table, Bytes index) {
  return _mm512_permutexvar_epi8(index, _mm512_load_si512(table));
}
#else
constexpr int kIndexBits = 4;
THIMBLE_INLINE Bytes IndexAt(Bytes x, int from) {
  return MoveBits(x, from, 0, 15);
}
THIMBLE_INLINE Bytes LookupIndex(const uint8_t* table, Bytes index) {
  return Lookup(table, index);
}
#endif
// IndexAt(x, from), with the bits below `split` taken from the beginning of `next`.
THIMBLE_INLINE Bytes JoinIndices(Bytes x, int from, Bytes next, int split) {
  constexpr int kSelect = 0xca;  // a ? b : c
  const __m512i low = _mm512_set1_epi8(static_cast<char>((1 << split) - 1));
  return _mm512_ternarylogic_epi32(low, next, IndexAt(x, from), kSelect);
}

THIMBLE_INLINE Bytes AddBytes(Bytes x, Bytes y) {
  return _mm512_add_epi8(x, y);
}
// Of each row column j + 1 in column j's place, and column 0 in column 3's.
THIMBLE_INLINE Bytes NextColumns(Bytes x) {
  return _mm512_ror_epi32(x, 8);
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
// TrellisScale (codec/trellis.h) of the byte of each row.
THIMBLE_INLINE Vec VecFromSmallFloats(const uint8_t* p) {
  const __m512i bytes = _mm512_cvtepu8_epi32(LoadAs<__m128i_u>(p));
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_slli_epi32(bytes, kScaleShift), _mm512_set1_epi32(kScaleBase)));
}
// The low or the high nibble of the byte of each row.
THIMBLE_INLINE Vec VecFromNibbles(const uint8_t* p, int shift) {
  const __m512i bytes = _mm512_cvtepu8_epi32(LoadAs<__m128i_u>(p));
  return _mm512_cvtepi32_ps(
      _mm512_and_si512(_mm512_srli_epi32(bytes, static_cast<unsigned>(shift)), _mm512_set1_epi32(15)));
}

}  // namespace thimble

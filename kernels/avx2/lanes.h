// Eight weight rows side by side, for AVX2, with AVX-VNNI where the unit is compiled for it. See
// kernels/generic/packed.inc.
#pragma once

#include "codec/trellis.h"
#include "kernels/avx2/simd.h"

namespace thimble {

using Bytes = __m256i;  // four columns of each row
using Ints = __m256i;   // one per row
constexpr int kRows = kLanes;
constexpr int kMaxColumns = 4;     // activation rows of a tile: one accumulator each
constexpr int kColumnsAtOnce = 1;  // of these, that a vector of weights meets before the next one

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  return _mm256_load_si256(static_cast<const __m256i*>(p));
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  _mm256_store_si256(static_cast<__m256i*>(p), x);
}
// The address p, in an instruction that the compiler keeps behind those that x comes from.
THIMBLE_INLINE const uint8_t* After(Bytes& x, const uint8_t* p) {
  asm volatile("" : "+x"(x), "+r"(p));
  return p;
}
// Bits `from` and up of each byte moved to `to`, where `mask` selects them.
THIMBLE_INLINE Bytes MoveBits(Bytes x, int from, int to, int mask) {
  const Bytes moved = from >= to ? _mm256_srli_epi16(x, from - to) : _mm256_slli_epi16(x, to - from);
  return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask)));
}
THIMBLE_INLINE Bytes Or(Bytes x, Bytes y) {
  return _mm256_or_si256(x, y);
}
// table[index], for 16 values.
THIMBLE_INLINE Bytes Lookup(const uint8_t* table, Bytes index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(LoadAs<__m128i_u>(table)), index);
}

// An index into a table of 2^kIndexBits values: the bits of each byte from `from` on.
constexpr int kIndexBits = 4;
THIMBLE_INLINE Bytes IndexAt(Bytes x, int from) {
  return MoveBits(x, from, 0, 15);
}
THIMBLE_INLINE Bytes LookupIndex(const uint8_t* table, Bytes index) {
  return Lookup(table, index);
}
// IndexAt(x, from), with the bits below `split` taken from the beginning of `next`.
THIMBLE_INLINE Bytes JoinIndices(Bytes x, int from, Bytes next, int split) {
  const int low = (1 << split) - 1;
  return Or(MoveBits(x, from, 0, 15 - low), MoveBits(next, 0, 0, low));
}

THIMBLE_INLINE Bytes AddBytes(Bytes x, Bytes y) {
  return _mm256_add_epi8(x, y);
}
// Of each row column j + 1 in column j's place, and column 0 in column 3's.
THIMBLE_INLINE Bytes NextColumns(Bytes x) {
  return _mm256_shuffle_epi8(x, _mm256_setr_epi8(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, 1, 2,
                                                 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12));
}

#if defined(__AVXVNNI__)
// dpbusd takes unsigned weights, so weights that use all of int8 are stored with an offset of 128.
constexpr int kWideOffset = 128;
THIMBLE_INLINE Bytes ToWide(Bytes x) {
  return _mm256_xor_si256(x, _mm256_set1_epi8(-128));
}
// init + the products of four columns each, w in ToWide's form or not.
THIMBLE_INLINE Ints DotBytes(Ints init, Bytes w, Bytes x) {
  return _mm256_dpbusd_avx_epi32(init, w, x);
}
// init + the products of the columns in w, n vectors, with x. Weights are at most kMax, or in ToWide's form.
template <int kMax, int n>
THIMBLE_INLINE Ints DotColumns(Ints init, const Bytes* w, const int8_t* x) {
  THIMBLE_UNROLL
  for (int i = 0; i < n; ++i) {
    init = DotBytes(init, w[i], _mm256_set1_epi32(LoadAs<int32_t>(x + 4 * i)));
  }
  return init;
}
#else
// maddubs adds pairs to int16 with saturation, so weights that use all of int8 are multiplied as |w| *
// sign(w) x: 2 * 128 * 127 fits, while an offset of 128 would not.
constexpr int kWideOffset = 0;
THIMBLE_INLINE Bytes ToWide(Bytes x) {
  return x;
}
// init + the products of the columns in w, n vectors, with x. Weights are at most kMax, or in ToWide's form.
template <int kMax, int n>
THIMBLE_INLINE Ints DotColumns(Ints init, const Bytes* w, const int8_t* x) {
  constexpr bool kWide = kMax > 127;
  constexpr int kFitting = kWide ? 1 : 32767 / (2 * 127 * kMax);  // vectors whose sums stay in int16
  constexpr int kStep = kFitting < n ? kFitting : n;
  static_assert(n % kStep == 0);
  THIMBLE_UNROLL
  for (int i = 0; i < n; i += kStep) {
    __m256i pairs = _mm256_setzero_si256();
    THIMBLE_UNROLL
    for (int j = i; j < i + kStep; ++j) {
      const __m256i columns = _mm256_set1_epi32(LoadAs<int32_t>(x + 4 * j));
      const __m256i products =
          kWide ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[j]), _mm256_sign_epi8(columns, w[j]))
                : _mm256_maddubs_epi16(w[j], columns);
      pairs = j == i ? products : _mm256_add_epi16(pairs, products);
    }
    init = _mm256_add_epi32(init, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return init;
}
#endif
// x << shift for every row.
THIMBLE_INLINE Ints IntsSet(int32_t x, int shift) {
  return _mm256_slli_epi32(_mm256_set1_epi32(x), shift);
}
THIMBLE_INLINE Ints IntsZero() {
  return _mm256_setzero_si256();
}

THIMBLE_INLINE Vec ToVec(Ints x) {
  return _mm256_cvtepi32_ps(x);
}
// One byte of each row.
THIMBLE_INLINE Vec VecFromInt8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(LoadAs<int64_t>(p))));
}
// TrellisScale (codec/trellis.h) of the byte of each row.
THIMBLE_INLINE Vec VecFromSmallFloats(const uint8_t* p) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(LoadAs<int64_t>(p)));
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_slli_epi32(bytes, kScaleShift), _mm256_set1_epi32(kScaleBase)));
}
// The low or the high nibble of the byte of each row.
THIMBLE_INLINE Vec VecFromNibbles(const uint8_t* p, int shift) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(LoadAs<int64_t>(p)));
  return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(bytes, shift), _mm256_set1_epi32(15)));
}

}  // namespace thimble

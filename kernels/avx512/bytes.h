// Lanes of bytes for AVX-512 + VNNI: four blocks side by side, 16 bytes of each. See
// kernels/generic/weights.inc.
#pragma once

#include "kernels/avx2/quad.h"
#include "kernels/avx512/simd.h"

namespace thimble {

using Bytes = __m512i;  // 4 lanes of 16 bytes
using Floats = __m512;  // 4 lanes of 4 floats

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  return _mm512_loadu_si512(p);
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  _mm512_storeu_si512(p, x);
}
// 16 bytes into each lane, `stride` bytes apart.
THIMBLE_INLINE Bytes LoadLanes(const uint8_t* p, ptrdiff_t stride) {
  const __m256i low =
      _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p)), LoadAs<__m128i_u>(p + stride), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p + 2 * stride)),
                                               LoadAs<__m128i_u>(p + 3 * stride), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
// The same for two pairs of lanes, each with its second one `second` bytes after the first.
THIMBLE_INLINE Bytes LoadLanePairs(const uint8_t* p, ptrdiff_t second, ptrdiff_t stride) {
  const __m256i low =
      _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p)), LoadAs<__m128i_u>(p + second), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p + stride)),
                                               LoadAs<__m128i_u>(p + stride + second), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
// The same 16 bytes into each lane.
THIMBLE_INLINE Bytes BroadcastLane(const void* p) {
  return _mm512_broadcast_i32x4(LoadAs<__m128i_u>(p));
}
// The first and the second 16 bytes of four blocks of 32 that lie `stride` bytes apart.
THIMBLE_INLINE void LoadHalves(const uint8_t* p, ptrdiff_t stride, Bytes* lo, Bytes* hi) {
  const Bytes a =
      _mm512_inserti64x4(_mm512_castsi256_si512(LoadAs<__m256i_u>(p)), LoadAs<__m256i_u>(p + stride), 1);
  const Bytes b = _mm512_inserti64x4(_mm512_castsi256_si512(LoadAs<__m256i_u>(p + 2 * stride)),
                                     LoadAs<__m256i_u>(p + 3 * stride), 1);
  *lo = _mm512_shuffle_i64x2(a, b, 0x88);
  *hi = _mm512_shuffle_i64x2(a, b, 0xdd);
}

THIMBLE_INLINE Bytes And(Bytes x, int mask) {
  return _mm512_and_si512(x, _mm512_set1_epi8(static_cast<char>(mask)));
}
THIMBLE_INLINE Bytes SubBytes(Bytes x, int y) {
  return _mm512_sub_epi8(x, _mm512_set1_epi8(static_cast<char>(y)));
}
THIMBLE_INLINE Bytes AddBytes(Bytes x, Bytes y) {
  return _mm512_add_epi8(x, y);
}
THIMBLE_INLINE Bytes Or(Bytes x, Bytes y) {
  return _mm512_or_si512(x, y);
}
THIMBLE_INLINE Bytes HighNibbles(Bytes x) {
  return And(_mm512_srli_epi16(x, 4), 15);
}
// Lane b: the bits 2b and 2b + 1 of each byte, as a number below 4.
THIMBLE_INLINE Bytes BitPairs(Bytes x) {
  const Bytes counts = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
  return And(_mm512_srlv_epi32(x, counts), 3);
}
THIMBLE_INLINE Bytes TimesSixteen(Bytes x) {
  return _mm512_slli_epi16(x, 4);
}  // x < 16
// Adds `value`, a bit that is not set in x, to the bytes where `source` has one of the bits of `select`.
THIMBLE_INLINE Bytes SetBitWhere(Bytes x, Bytes source, Bytes select, int value) {
  const Bytes with = _mm512_or_si512(x, _mm512_set1_epi8(static_cast<char>(value)));
  return _mm512_mask_mov_epi8(x, _mm512_test_epi8_mask(source, select), with);
}
// Lane b: bit `first` + b in every byte.
THIMBLE_INLINE Bytes LaneBits(int first) {
  return _mm512_slli_epi32(
      _mm512_setr_epi32(0x01010101, 0x01010101, 0x01010101, 0x01010101, 0x02020202, 0x02020202, 0x02020202,
                        0x02020202, 0x04040404, 0x04040404, 0x04040404, 0x04040404, 0x08080808, 0x08080808,
                        0x08080808, 0x08080808),
      static_cast<unsigned>(first));
}
THIMBLE_INLINE Bytes Lookup(Bytes table, Bytes index) {
  return _mm512_shuffle_epi8(table, index);
}
// Lane b: the four bytes at p + b * stride, bytes 0 (or 2) and 1 (or 3) eight times each.
THIMBLE_INLINE void SpreadBitBytes(const uint8_t* p, ptrdiff_t stride, Bytes* first, Bytes* second) {
  const __m128i four = _mm_setr_epi32(LoadAs<int32_t>(p), LoadAs<int32_t>(p + stride),
                                      LoadAs<int32_t>(p + 2 * stride), LoadAs<int32_t>(p + 3 * stride));
  const Bytes lanes = _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), _mm512_castsi128_si512(four));
  *first =
      Lookup(lanes, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)));
  *second =
      Lookup(lanes, _mm512_broadcast_i32x4(_mm_setr_epi8(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3)));
}
// [x0, y0, x2, y2] and [x1, y1, x3, y3] of the lanes of x and y.
THIMBLE_INLINE void InterleaveLanes(Bytes x, Bytes y, Bytes* even, Bytes* odd) {
  *even = _mm512_permutex2var_epi64(x, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), y);
  *odd = _mm512_permutex2var_epi64(x, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), y);
}
// [x0, x2, y0, y2] and [x1, x3, y1, y3].
THIMBLE_INLINE void SplitLanes(Bytes x, Bytes y, Bytes* even, Bytes* odd) {
  *even = _mm512_shuffle_i64x2(x, y, 0x88);
  *odd = _mm512_shuffle_i64x2(x, y, 0xdd);
}

// The 16 bytes from byte kFrom on of each lane of x and, after it, that of y.
template <int kFrom>
THIMBLE_INLINE Bytes JoinLanes(Bytes x, Bytes y) {
  return _mm512_alignr_epi8(y, x, kFrom);
}
// Words of 32 bits, each shifted by a count of its own.
THIMBLE_INLINE Bytes ShiftRight(Bytes x, Bytes counts) {
  return _mm512_srlv_epi32(x, counts);
}
THIMBLE_INLINE Bytes ShiftLeft(Bytes x, Bytes counts) {
  return _mm512_sllv_epi32(x, counts);
}
// Bytes 0, 2, ... of the one and bytes 1, 3, ... of the other.
THIMBLE_INLINE Bytes EvenAndOdd(Bytes even, Bytes odd) {
  return _mm512_mask_mov_epi8(even, 0xaaaaaaaaaaaaaaaau, odd);
}

// --- Four lanes of four floats.
THIMBLE_INLINE void FloatsStore(float* p, Floats x) {
  _mm512_storeu_ps(p, x);
}
THIMBLE_INLINE Floats FloatsFromInt8(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(LoadAs<__m128i_u>(p)));
}
THIMBLE_INLINE Floats FloatsSet(float x) {
  return _mm512_set1_ps(x);
}
THIMBLE_INLINE Floats FloatsMul(Floats a, Floats b) {
  return _mm512_mul_ps(a, b);
}
THIMBLE_INLINE Floats FloatsSub(Floats a, Floats b) {
  return _mm512_sub_ps(a, b);
}

// --- Activations.
THIMBLE_INLINE Floats FloatsLoadUnaligned(const float* p) {
  return _mm512_loadu_ps(p);
}
THIMBLE_INLINE int32_t HighestMagnitudeBits(Floats x, Floats y) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x), magnitude),
                                                  _mm512_and_si512(_mm512_castps_si512(y), magnitude)));
}
// Rounds to the nearest even, stores as bytes and returns the sum of them.
THIMBLE_INLINE int16_t StoreRounded(Floats x, int8_t* q) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
  memcpy(q, &bytes, sizeof(bytes));
  // Two sums of eight bytes, each of which is 128 too much.
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
  return static_cast<int16_t>(_mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 2) - 16 * 128);
}

}  // namespace thimble

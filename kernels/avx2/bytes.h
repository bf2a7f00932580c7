// Lanes of bytes for AVX2: four blocks side by side, 16 bytes of each. See kernels/generic/weights.inc.
#pragma once

#include "kernels/avx2/quad.h"
#include "kernels/avx2/simd.h"

namespace thimble {

struct Bytes {  // 4 lanes of 16 bytes: two in each register
  __m256i a, b;
};
struct Floats {  // 4 lanes of 4 floats
  __m256 a, b;
};

THIMBLE_INLINE Bytes LoadBytes(const void* p) {
  const uint8_t* bytes = static_cast<const uint8_t*>(p);
  return {LoadAs<__m256i_u>(bytes), LoadAs<__m256i_u>(bytes + 32)};
}
THIMBLE_INLINE void StoreBytes(void* p, Bytes x) {
  memcpy(p, &x, sizeof(x));
}
// 16 bytes into each lane, `stride` bytes apart.
THIMBLE_INLINE Bytes LoadLanes(const uint8_t* p, ptrdiff_t stride) {
  return {
      _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p)), LoadAs<__m128i_u>(p + stride), 1),
      _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p + 2 * stride)),
                              LoadAs<__m128i_u>(p + 3 * stride), 1)};
}
// The same for two pairs of lanes, each with its second one `second` bytes after the first.
THIMBLE_INLINE Bytes LoadLanePairs(const uint8_t* p, ptrdiff_t second, ptrdiff_t stride) {
  return {
      _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p)), LoadAs<__m128i_u>(p + second), 1),
      _mm256_inserti128_si256(_mm256_castsi128_si256(LoadAs<__m128i_u>(p + stride)),
                              LoadAs<__m128i_u>(p + stride + second), 1)};
}
// The same 16 bytes into each lane.
THIMBLE_INLINE Bytes BroadcastLane(const void* p) {
  const __m256i x = _mm256_broadcastsi128_si256(LoadAs<__m128i_u>(p));
  return {x, x};
}
// [x0, x2, y0, y2] and [x1, x3, y1, y3] of the lanes of x and y.
THIMBLE_INLINE void SplitLanes(Bytes x, Bytes y, Bytes* even, Bytes* odd) {
  *even = {_mm256_permute2x128_si256(x.a, x.b, 0x20), _mm256_permute2x128_si256(y.a, y.b, 0x20)};
  *odd = {_mm256_permute2x128_si256(x.a, x.b, 0x31), _mm256_permute2x128_si256(y.a, y.b, 0x31)};
}
// [x0, y0, x2, y2] and [x1, y1, x3, y3].
THIMBLE_INLINE void InterleaveLanes(Bytes x, Bytes y, Bytes* even, Bytes* odd) {
  *even = {_mm256_permute2x128_si256(x.a, y.a, 0x20), _mm256_permute2x128_si256(x.b, y.b, 0x20)};
  *odd = {_mm256_permute2x128_si256(x.a, y.a, 0x31), _mm256_permute2x128_si256(x.b, y.b, 0x31)};
}
// The first and the second 16 bytes of four blocks of 32 that lie `stride` bytes apart.
THIMBLE_INLINE void LoadHalves(const uint8_t* p, ptrdiff_t stride, Bytes* lo, Bytes* hi) {
  *lo = LoadLanes(p, stride);
  *hi = LoadLanes(p + 16, stride);
}

THIMBLE_INLINE Bytes And(Bytes x, int mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
THIMBLE_INLINE Bytes SubBytes(Bytes x, int y) {
  const __m256i s = _mm256_set1_epi8(static_cast<char>(y));
  return {_mm256_sub_epi8(x.a, s), _mm256_sub_epi8(x.b, s)};
}
THIMBLE_INLINE Bytes AddBytes(Bytes x, Bytes y) {
  return {_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)};
}
THIMBLE_INLINE Bytes Or(Bytes x, Bytes y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
THIMBLE_INLINE Bytes HighNibbles(Bytes x) {
  return And({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}, 15);
}
// Lane b: the bits 2b and 2b + 1 of each byte, as a number below 4.
THIMBLE_INLINE Bytes BitPairs(Bytes x) {
  return And({_mm256_srlv_epi32(x.a, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2)),
              _mm256_srlv_epi32(x.b, _mm256_setr_epi32(4, 4, 4, 4, 6, 6, 6, 6))},
             3);
}
THIMBLE_INLINE Bytes TimesSixteen(Bytes x) {  // x < 16
  return {_mm256_slli_epi16(x.a, 4), _mm256_slli_epi16(x.b, 4)};
}
THIMBLE_INLINE __m256i SetBitWhere(__m256i x, __m256i source, __m256i select, int value) {
  const __m256i clear = _mm256_cmpeq_epi8(_mm256_and_si256(source, select), _mm256_setzero_si256());
  return _mm256_or_si256(x, _mm256_andnot_si256(clear, _mm256_set1_epi8(static_cast<char>(value))));
}
// Adds `value`, a bit that is not set in x, to the bytes where `source` has one of the bits of `select`.
THIMBLE_INLINE Bytes SetBitWhere(Bytes x, Bytes source, Bytes select, int value) {
  return {SetBitWhere(x.a, source.a, select.a, value), SetBitWhere(x.b, source.b, select.b, value)};
}
// Lane b: bit `first` + b in every byte.
THIMBLE_INLINE Bytes LaneBits(int first) {
  const __m256i a = _mm256_setr_epi32(0x01010101, 0x01010101, 0x01010101, 0x01010101, 0x02020202, 0x02020202,
                                      0x02020202, 0x02020202);
  return {_mm256_slli_epi32(a, first), _mm256_slli_epi32(a, first + 2)};
}
THIMBLE_INLINE Bytes Lookup(Bytes table, Bytes index) {
  return {_mm256_shuffle_epi8(table.a, index.a), _mm256_shuffle_epi8(table.b, index.b)};
}
// Lane b: the four bytes at p + b * stride, bytes 0 (or 2) and 1 (or 3) eight times each.
THIMBLE_INLINE void SpreadBitBytes(const uint8_t* p, ptrdiff_t stride, Bytes* first, Bytes* second) {
  const Bytes lanes = {
      _mm256_setr_m128i(_mm_set1_epi32(LoadAs<int32_t>(p)), _mm_set1_epi32(LoadAs<int32_t>(p + stride))),
      _mm256_setr_m128i(_mm_set1_epi32(LoadAs<int32_t>(p + 2 * stride)),
                        _mm_set1_epi32(LoadAs<int32_t>(p + 3 * stride)))};
  const __m256i low =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const __m256i high =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
  *first = Lookup(lanes, {low, low});
  *second = Lookup(lanes, {high, high});
}

// The 16 bytes from byte kFrom on of each lane of x and, after it, that of y.
template <int kFrom>
THIMBLE_INLINE Bytes JoinLanes(Bytes x, Bytes y) {
  return {_mm256_alignr_epi8(y.a, x.a, kFrom), _mm256_alignr_epi8(y.b, x.b, kFrom)};
}
// Words of 32 bits, each shifted by a count of its own.
THIMBLE_INLINE Bytes ShiftRight(Bytes x, Bytes counts) {
  return {_mm256_srlv_epi32(x.a, counts.a), _mm256_srlv_epi32(x.b, counts.b)};
}
THIMBLE_INLINE Bytes ShiftLeft(Bytes x, Bytes counts) {
  return {_mm256_sllv_epi32(x.a, counts.a), _mm256_sllv_epi32(x.b, counts.b)};
}
// Bytes 0, 2, ... of the one and bytes 1, 3, ... of the other.
THIMBLE_INLINE Bytes EvenAndOdd(Bytes even, Bytes odd) {
  const __m256i select = _mm256_set1_epi16(-256);
  return {_mm256_blendv_epi8(even.a, odd.a, select), _mm256_blendv_epi8(even.b, odd.b, select)};
}

// --- Four lanes of four floats.
THIMBLE_INLINE void FloatsStore(float* p, Floats x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
THIMBLE_INLINE Floats FloatsFromInt8(const int8_t* p) {
  const __m128i x = LoadAs<__m128i_u>(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x)))};
}
THIMBLE_INLINE Floats FloatsSet(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
THIMBLE_INLINE Floats FloatsMul(Floats a, Floats b) {
  return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)};
}
THIMBLE_INLINE Floats FloatsSub(Floats a, Floats b) {
  return {_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)};
}

// --- Activations.
THIMBLE_INLINE Floats FloatsLoadUnaligned(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
THIMBLE_INLINE int32_t HighestMagnitudeBits(Floats x, Floats y) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  const __m256i a = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(x.a), magnitude),
                                     _mm256_and_si256(_mm256_castps_si256(x.b), magnitude));
  const __m256i b = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(y.a), magnitude),
                                     _mm256_and_si256(_mm256_castps_si256(y.b), magnitude));
  const __m256i both = _mm256_max_epi32(a, b);
  __m128i highest = _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  highest = _mm_max_epi32(highest, _mm_shuffle_epi32(highest, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(highest, _mm_shuffle_epi32(highest, 0xb1)));
}
// Rounds to the nearest even, stores as bytes and returns the sum of them.
THIMBLE_INLINE int16_t StoreRounded(Floats x, int8_t* q) {
  const __m256i a = _mm256_cvtps_epi32(x.a), b = _mm256_cvtps_epi32(x.b);
  const __m256i shorts = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  const __m128i low = _mm256_castsi256_si128(shorts), high = _mm256_extracti128_si256(shorts, 1);
  const __m128i bytes = _mm_packs_epi16(low, high);
  memcpy(q, &bytes, sizeof(bytes));
  __m128i sum = _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return static_cast<int16_t>(_mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1))));
}

}  // namespace thimble

// The vector vocabulary that kernels/generic/ is written in, for AVX2 + FMA + F16C.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/generic/macros.h"

#ifndef THIMBLE_TIER
#define THIMBLE_TIER avx2
#endif

namespace thimble {

// --- Native float vectors.
using Vec = __m256;
constexpr int kLanes = 8;

// Register blocking of the gemm micro-kernel: kGemmRows x kGemmVecs accumulators, or a wider one for few
// rows.
constexpr int kGemmRows = 6;
constexpr int kGemmVecs = 2;
constexpr int kWideRows = 3;
constexpr int kWideVecs = 4;

THIMBLE_INLINE Vec VecZero() {
  return _mm256_setzero_ps();
}
THIMBLE_INLINE Vec VecSet(float x) {
  return _mm256_set1_ps(x);
}
THIMBLE_INLINE Vec VecLoad(const float* p) {
  return _mm256_loadu_ps(p);
}
// Holds v in a register where the compiler might load it again for each use.
THIMBLE_INLINE void VecHold(Vec& v) {
  asm("" : "+x"(v));
}
THIMBLE_INLINE void VecStore(float* p, Vec v) {
  _mm256_storeu_ps(p, v);
}
THIMBLE_INLINE __m256i FirstLanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// The first `count` (0..8) lanes; the others load as 0.
THIMBLE_INLINE Vec VecLoadPart(const float* p, int64_t count) {
  return _mm256_maskload_ps(p, FirstLanes(count));
}
THIMBLE_INLINE void VecStorePart(float* p, Vec v, int64_t count) {
  _mm256_maskstore_ps(p, FirstLanes(count), v);
}
// kLanes F16 or BF16 numbers.
THIMBLE_INLINE Vec VecLoadF16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i_u*>(p)));
}
THIMBLE_INLINE void VecStoreF16(void* p, Vec v) {
  _mm_storeu_si128(static_cast<__m128i_u*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
THIMBLE_INLINE Vec VecLoadBf16(const void* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i_u*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
THIMBLE_INLINE Vec VecAdd(Vec a, Vec b) {
  return _mm256_add_ps(a, b);
}
THIMBLE_INLINE Vec VecSub(Vec a, Vec b) {
  return _mm256_sub_ps(a, b);
}
THIMBLE_INLINE Vec VecMul(Vec a, Vec b) {
  return _mm256_mul_ps(a, b);
}
// 1 / x for x in [1, 2^127].
THIMBLE_INLINE Vec VecReciprocal(Vec x) {
  return _mm256_div_ps(_mm256_set1_ps(1.0f), x);
}
THIMBLE_INLINE Vec VecMax(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
}
THIMBLE_INLINE Vec VecMin(Vec a, Vec b) {
  return _mm256_min_ps(a, b);
}
THIMBLE_INLINE Vec VecFma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}  // a * b + c
THIMBLE_INLINE Vec VecFnma(Vec a, Vec b, Vec c) {
  return _mm256_fnmadd_ps(a, b, c);
}  // c - a * b
THIMBLE_INLINE Vec VecRound(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x * 2^n for whole n in [-252, 254]: in two steps, as 2^n alone may not be a normal number.
THIMBLE_INLINE Vec VecScale2(Vec x, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i first = _mm256_srai_epi32(whole, 1);
  const __m256i second = _mm256_sub_epi32(whole, first);
  const __m256i bias = _mm256_set1_epi32(127);
  const Vec a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
  const Vec b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}
// The first `count` lanes of a (none if it is negative, at most all), the others of b.
THIMBLE_INLINE Vec VecFirst(int count, Vec a, Vec b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(FirstLanes(count)));
}
// Lanes 2i and 2i + 1 change places.
THIMBLE_INLINE Vec VecSwapNeighbours(Vec v) {
  return _mm256_permute_ps(v, 0xb1);
}
// In the order of VecSum4.
THIMBLE_INLINE float VecSum(Vec v) {
  v = _mm256_add_ps(v, _mm256_movehdup_ps(v));
  v = _mm256_add_ps(v, _mm256_permute_ps(v, 0x4e));
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
THIMBLE_INLINE float VecMaxLane(Vec v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// sums[i] = the sum of v[i]'s lanes.
THIMBLE_INLINE void VecSum4(const Vec v[4], float sums[4]) {
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

THIMBLE_INLINE void VecTranspose(Vec r[kLanes]) {
  Vec t[8];
  THIMBLE_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  THIMBLE_UNROLL
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  THIMBLE_UNROLL
  for (int s = 0; s < 4; ++s) {
    t[s] = _mm256_permute2f128_ps(r[s], r[4 + s], 0x20);
    t[4 + s] = _mm256_permute2f128_ps(r[s], r[4 + s], 0x31);
  }
  THIMBLE_UNROLL
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

}  // namespace thimble

// The vector vocabulary that kernels/generic/ is written in, for AVX-512 F/BW/VL/DQ + VNNI.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/generic/macros.h"

#ifndef THIMBLE_TIER
#define THIMBLE_TIER avx512
#endif

namespace thimble {

// --- Native float vectors.
using Vec = __m512;
constexpr int kLanes = 16;

// Register blocking of the gemm micro-kernel: kGemmRows x kGemmVecs accumulators, or a wider one for few
// rows.
constexpr int kGemmRows = 14;
constexpr int kGemmVecs = 2;
constexpr int kWideRows = 6;
constexpr int kWideVecs = 4;

THIMBLE_INLINE Vec VecZero() {
  return _mm512_setzero_ps();
}
THIMBLE_INLINE Vec VecSet(float x) {
  return _mm512_set1_ps(x);
}
THIMBLE_INLINE Vec VecLoad(const float* p) {
  return _mm512_loadu_ps(p);
}
// Holds v in a register where the compiler might load it again for each use.
THIMBLE_INLINE void VecHold(Vec& v) {
  asm("" : "+v"(v));
}
THIMBLE_INLINE void VecStore(float* p, Vec v) {
  _mm512_storeu_ps(p, v);
}
THIMBLE_INLINE __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}
// The first `count` (0..16) lanes; the others load as 0.
THIMBLE_INLINE Vec VecLoadPart(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(FirstLanes(count), p);
}
THIMBLE_INLINE void VecStorePart(float* p, Vec v, int64_t count) {
  _mm512_mask_storeu_ps(p, FirstLanes(count), v);
}
// kLanes F16 or BF16 numbers.
THIMBLE_INLINE Vec VecLoadF16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i_u*>(p)));
}
THIMBLE_INLINE void VecStoreF16(void* p, Vec v) {
  _mm256_storeu_si256(static_cast<__m256i_u*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
THIMBLE_INLINE Vec VecLoadBf16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i_u*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
THIMBLE_INLINE Vec VecAdd(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
THIMBLE_INLINE Vec VecSub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
THIMBLE_INLINE Vec VecMul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
// 1 / x for x in [1, 2^127], within 2 ulp; 0 where that is less than 2^-126.
THIMBLE_INLINE Vec VecReciprocal(Vec x) {
  const Vec near =
      _mm512_rcp14_ps(x);  // a step of Newton's doubles its 14 bits, in half the time of a division
  return _mm512_fmadd_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(1.0f)), near);
}
THIMBLE_INLINE Vec VecMax(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
THIMBLE_INLINE Vec VecMin(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}
THIMBLE_INLINE Vec VecFma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}  // a * b + c
THIMBLE_INLINE Vec VecFnma(Vec a, Vec b, Vec c) {
  return _mm512_fnmadd_ps(a, b, c);
}  // c - a * b
THIMBLE_INLINE Vec VecRound(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x * 2^n for whole n.
THIMBLE_INLINE Vec VecScale2(Vec x, Vec n) {
  return _mm512_scalef_ps(x, n);
}
// The first `count` lanes of a (none if it is negative, at most all), the others of b.
THIMBLE_INLINE Vec VecFirst(int count, Vec a, Vec b) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_mask_blend_ps(_mm512_cmplt_epi32_mask(lanes, _mm512_set1_epi32(count)), b, a);
}
// Lanes 2i and 2i + 1 change places.
THIMBLE_INLINE Vec VecSwapNeighbours(Vec v) {
  return _mm512_permute_ps(v, 0xb1);
}
// In the order of VecSum4.
THIMBLE_INLINE float VecSum(Vec v) {
  __m256 s = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  s = _mm256_add_ps(s, _mm256_movehdup_ps(s));
  s = _mm256_add_ps(s, _mm256_permute_ps(s, 0x4e));
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
THIMBLE_INLINE float VecMaxLane(Vec v) {
  return _mm512_reduce_max_ps(v);
}

// sums[i] = the sum of v[i]'s lanes.
THIMBLE_INLINE void VecSum4(const Vec v[4], float sums[4]) {
  __m256 half[4];
  THIMBLE_UNROLL
  for (int i = 0; i < 4; ++i) {
    half[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i]), _mm512_extractf32x8_ps(v[i], 1));
  }
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

THIMBLE_INLINE void VecTranspose(Vec r[kLanes]) {
  Vec t[16];
  THIMBLE_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  // Within each 128-bit lane L: r[4q + s] = column 4L + s of rows 4q..4q+3.
  THIMBLE_UNROLL
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
  }
  // A 4x4 transpose of 128-bit lanes for each s.
  THIMBLE_UNROLL
  for (int s = 0; s < 4; ++s) {
    const Vec a = _mm512_shuffle_f32x4(r[s], r[4 + s], 0x44);
    const Vec b = _mm512_shuffle_f32x4(r[s], r[4 + s], 0xee);
    const Vec c = _mm512_shuffle_f32x4(r[8 + s], r[12 + s], 0x44);
    const Vec d = _mm512_shuffle_f32x4(r[8 + s], r[12 + s], 0xee);
    t[s] = _mm512_shuffle_f32x4(a, c, 0x88);
    t[4 + s] = _mm512_shuffle_f32x4(a, c, 0xdd);
    t[8 + s] = _mm512_shuffle_f32x4(b, d, 0x88);
    t[12 + s] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
  THIMBLE_UNROLL
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

}  // namespace thimble

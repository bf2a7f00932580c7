// Four floats at a time: the scales of four blocks. Shared by the x86 tiers.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/generic/macros.h"

namespace thimble {

using Quad = __m128;

THIMBLE_INLINE float HalfAt(const uint8_t* p) {
  return _cvtsh_ss(LoadAs<uint16_t>(p));
}
THIMBLE_INLINE Quad QuadSet(float x) {
  return _mm_set1_ps(x);
}
THIMBLE_INLINE Quad QuadZero() {
  return _mm_setzero_ps();
}
THIMBLE_INLINE Quad QuadLoad(const float* p) {
  return _mm_loadu_ps(p);
}
THIMBLE_INLINE void QuadStore(float* p, Quad q) {
  _mm_storeu_ps(p, q);
}
THIMBLE_INLINE Quad QuadMul(Quad a, Quad b) {
  return _mm_mul_ps(a, b);
}
THIMBLE_INLINE Quad QuadFma(Quad a, Quad b, Quad c) {
  return _mm_fmadd_ps(a, b, c);
}
THIMBLE_INLINE Quad QuadNegate(Quad a) {
  return _mm_xor_ps(a, _mm_set1_ps(-0.0f));
}

// Four F16 numbers, `stride` bytes apart.
THIMBLE_INLINE Quad QuadHalves(const uint8_t* p, ptrdiff_t stride) {
  __m128i halves = _mm_cvtsi32_si128(LoadAs<uint16_t>(p));
  halves = _mm_insert_epi16(halves, LoadAs<uint16_t>(p + stride), 1);
  halves = _mm_insert_epi16(halves, LoadAs<uint16_t>(p + 2 * stride), 2);
  halves = _mm_insert_epi16(halves, LoadAs<uint16_t>(p + 3 * stride), 3);
  return _mm_cvtph_ps(halves);
}

// The four bytes of `bytes`, unsigned, less `bias`.
THIMBLE_INLINE Quad QuadBytes(uint32_t bytes, int bias) {
  const __m128i whole = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(static_cast<int>(bytes)));
  return _mm_cvtepi32_ps(_mm_sub_epi32(whole, _mm_set1_epi32(bias)));
}

// The bytes at even and at odd places of `bytes`, unsigned, less `bias`.
THIMBLE_INLINE void QuadBytePairs(uint64_t bytes, int bias, Quad* even, Quad* odd) {
  const __m128i words = _mm_cvtepu16_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
  const __m128i biases = _mm_set1_epi32(bias);
  *even = _mm_cvtepi32_ps(_mm_sub_epi32(_mm_and_si128(words, _mm_set1_epi32(0xff)), biases));
  *odd = _mm_cvtepi32_ps(_mm_sub_epi32(_mm_srli_epi32(words, 8), biases));
}

}  // namespace thimble

// 32 int8 products summed to 8 x int32: AVX2 takes three instructions for it.
#include <immintrin.h>

#include "kernels/tiers.h"

namespace thimble::avx2 {
namespace {

// Eight chains; as an array they would go through memory.
int64_t Int8Peak(int64_t rounds) {
  const __m256i ones = _mm256_set1_epi16(1), x = _mm256_set1_epi8(5), zero = _mm256_setzero_si256();
  const auto step = [&](__m256i& sum) {
    __m256i w = _mm256_set1_epi8(3);
    asm volatile("" : "+x"(w));  // or the product would be computed once
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
  };
  const auto keep = [](__m256i& sum) { asm volatile("" : : "x"(sum)); };
  __m256i a = zero, b = zero, c = zero, d = zero, e = zero, f = zero, g = zero, h = zero;
  for (int64_t round = 0; round < rounds; ++round) {
    step(a), step(b), step(c), step(d), step(e), step(f), step(g), step(h);
  }
  keep(a), keep(b), keep(c), keep(d), keep(e), keep(f), keep(g), keep(h);
  return rounds * 8 * 32;
}

}  // namespace

void FillPeak(KernelTable* table) {
  table->int8_peak = Int8Peak;
}

}  // namespace thimble::avx2

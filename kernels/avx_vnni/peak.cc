// 32 int8 products summed to 8 x int32 in one instruction.
#include <immintrin.h>

#include "kernels/tiers.h"

namespace thimble::avx_vnni {
namespace {

// Twelve chains; as an array they would go through memory.
int64_t Int8Peak(int64_t rounds) {
  const __m256i w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5), zero = _mm256_setzero_si256();
  const auto step = [&](__m256i& sum) { sum = _mm256_dpbusd_avx_epi32(sum, w, x); };
  const auto keep = [](__m256i& sum) { asm volatile("" : "+x"(sum)); };
  __m256i a = zero, b = zero, c = zero, d = zero, e = zero, f = zero;
  __m256i g = zero, h = zero, i = zero, j = zero, k = zero, l = zero;
  keep(a), keep(b), keep(c), keep(d), keep(e), keep(f);  // unknown from here on, or all would be one chain
  keep(g), keep(h), keep(i), keep(j), keep(k), keep(l);
  for (int64_t round = 0; round < rounds; ++round) {
    step(a), step(b), step(c), step(d), step(e), step(f);
    step(g), step(h), step(i), step(j), step(k), step(l);
  }
  keep(a), keep(b), keep(c), keep(d), keep(e), keep(f);
  keep(g), keep(h), keep(i), keep(j), keep(k), keep(l);
  return rounds * 12 * 32;
}

}  // namespace

void FillPeak(KernelTable* table) {
  table->int8_peak = Int8Peak;
}

}  // namespace thimble::avx_vnni

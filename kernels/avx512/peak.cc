// VNNI: 64 int8 products summed to 16 x int32 in one instruction.
#include <immintrin.h>

#include "kernels/tiers.h"

namespace thimble::avx512 {
namespace {

// Twelve chains, more than the instruction's latency times its throughput; as an array they would go through
// memory.
int64_t Int8Peak(int64_t rounds) {
  const __m512i w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
  const auto step = [&](__m512i& sum) { sum = _mm512_dpbusd_epi32(sum, w, x); };
  const auto keep = [](__m512i& sum) { asm volatile("" : "+v"(sum)); };
  const __m512i zero = _mm512_setzero_si512();
  __m512i a = zero, b = zero, c = zero, d = zero, e = zero, f = zero;
  __m512i g = zero, h = zero, i = zero, j = zero, k = zero, l = zero;
  keep(a), keep(b), keep(c), keep(d), keep(e), keep(f);  // unknown from here on, or all would be one chain
  keep(g), keep(h), keep(i), keep(j), keep(k), keep(l);
  for (int64_t round = 0; round < rounds; ++round) {
    step(a), step(b), step(c), step(d), step(e), step(f);
    step(g), step(h), step(i), step(j), step(k), step(l);
  }
  keep(a), keep(b), keep(c), keep(d), keep(e), keep(f);
  keep(g), keep(h), keep(i), keep(j), keep(k), keep(l);
  return rounds * 12 * 64;
}

}  // namespace

void FillPeak(KernelTable* table) {
  table->int8_peak = Int8Peak;
}

}  // namespace thimble::avx512

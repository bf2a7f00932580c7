#include "quant/ring_rounding.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "codec/blocks.h"
#include "codec/ring_search.h"

namespace thimble {
namespace {

template <typename Block, int kBits, int kWidth>
double RoundBlock(int n, const float* own, const float* x, const RoundFactor& factor, uint8_t* out,
                  float* errors) {
  float weights[kRingBlock];
  float squares = 0, sum = 0, peak = 0;
  for (int i = 0; i < n; ++i) {
    weights[i] = factor.diagonal[i] * factor.diagonal[i];
    squares += weights[i] * x[i] * x[i];
    sum += weights[i];
    peak = std::max(peak, std::abs(x[i]));
  }
  RingSearch<kBits, kWidth> search;
  double least = INFINITY;
  bool any = false;
  SearchScale<kBits, 2>(std::sqrt(squares / sum), peak, [&](uint8_t code) {
    Block tried;
    tried.scale = code;
    const float scale = TrellisScale(tried.scale), inverse = 1 / scale;
    float e[kRingBlock];
    double cost = 0;
    for (int begin = 0; begin < n; begin += kRing) {
      float target[kRing], scaled[kRing], scaled_own[kRing];
      for (int i = 0; i < kRing; ++i) {
        const float* row = factor.feedback + (begin + i) * factor.ld;
        target[i] = x[begin + i];
        for (int j = 0; j < begin; ++j) target[i] += row[j] * e[j];
        scaled[i] = target[i] * inverse;
        scaled_own[i] = own[begin + i] * inverse;
      }
      const RingFeedback feedback = {factor.feedback + begin * factor.ld + begin, factor.ld};
      search.Find(scaled, weights + begin, scaled_own, feedback);
      search.Pack(tried.codes[begin / kRing]);
      for (int i = 0; i < kRing; ++i) {
        e[begin + i] = own[begin + i] - scale * search.Point(i);
        float moved = target[i] - scale * search.Point(i);
        for (int j = 0; j < i; ++j) moved += feedback.rows[i * feedback.ld + j] * e[begin + j];
        cost += static_cast<double>(weights[begin + i]) * moved * moved;
      }
    }
    if (any && !(cost < least)) return false;  // the first in any case: numbers may not be finite
    any = true;
    least = cost;
    std::memcpy(out, &tried, n == kRingBlock ? sizeof(tried) : Info(Block::kType).half_bytes);
    std::copy_n(e, n, errors);
    return true;
  });
  return least;
}

template <typename Block, int kBits>
[[gnu::flatten]] double RoundBaseline(int n, const float* own, const float* x, const RoundFactor& factor,
                                      uint8_t* out, float* errors) {
  return RoundBlock<Block, kBits, 8>(n, own, x, factor, out, errors);
}
#if defined(__x86_64__)
template <typename Block, int kBits>
[[gnu::target("avx2,fma"), gnu::flatten]] double RoundAvx2(int n, const float* own, const float* x,
                                                           const RoundFactor& factor, uint8_t* out,
                                                           float* errors) {
  return RoundBlock<Block, kBits, 8>(n, own, x, factor, out, errors);
}
template <typename Block, int kBits>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::flatten]] double RoundAvx512(
    int n, const float* own, const float* x, const RoundFactor& factor, uint8_t* out, float* errors) {
  return RoundBlock<Block, kBits, 16>(n, own, x, factor, out, errors);
}
#endif

template <typename Block, int kBits>
double Round(int n, const float* own, const float* x, const RoundFactor& factor, uint8_t* out,
             float* errors) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return RoundAvx512<Block, kBits>(n, own, x, factor, out, errors);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return RoundAvx2<Block, kBits>(n, own, x, factor, out, errors);
  }
#endif
  return RoundBaseline<Block, kBits>(n, own, x, factor, out, errors);
}

}  // namespace

double RoundRingBlock(WeightType type, int n, const float* own, const float* x, const RoundFactor& factor,
                      uint8_t* out, float* errors) {
  CHECK(n == kRingBlock || n == kRing);
  switch (type) {
    case WeightType::kT2:
      return Round<BlockT2, 2>(n, own, x, factor, out, errors);
    case WeightType::kT3:
      return Round<BlockT3, 3>(n, own, x, factor, out, errors);
    case WeightType::kT4:
      return Round<BlockT4, 4>(n, own, x, factor, out, errors);
    case WeightType::kT5:
      return Round<BlockT5, 5>(n, own, x, factor, out, errors);
    default:
      CHECK(false);
      return 0;
  }
}

}  // namespace thimble

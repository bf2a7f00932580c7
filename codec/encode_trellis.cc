// T2 to T5: rings for a few scales, of which the best is taken.
#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/encode.h"
#include "codec/ring_search.h"

namespace thimble {
namespace {

template <int kBits>
inline void EncodeRings(const float* x, const float* w, TrellisBlock<kBits>* block) {
  constexpr int kRings = 2;
  float ring[kRings][kRing], weights[kRings][kRing];
  float squares = 0, sum = 0, peak = 0;
  for (int h = 0; h < kRings; ++h) {
    for (int s = 0; s < kRing; ++s) {
      const int at = h * kRing + RingColumn(s);
      ring[h][s] = x[at];
      weights[h][s] = w[at];
      squares += w[at] * x[at] * x[at];
      sum += w[at];
      peak = std::max(peak, std::abs(x[at]));
    }
  }
  RingSearch<kBits, kLanes> search;
  float least = std::numeric_limits<float>::infinity();
  SearchScale<kBits, 1>(std::sqrt(squares / sum), peak, [&](uint8_t code) {
    const float scale = TrellisScale(code);
    TrellisBlock<kBits> tried;
    tried.scale = code;
    float error = 0;
    for (int h = 0; h < kRings; ++h) {
      float scaled[kRing];
      for (int s = 0; s < kRing; ++s) scaled[s] = ring[h][s] / scale;
      error += search.Find(scaled, weights[h]) * scale * scale;
      search.Pack(tried.codes[h]);
    }
    if (!(error < least)) return false;
    least = error;
    *block = tried;
    return true;
  });
}

}  // namespace

inline void EncodeBlock(const float* x, const float* w, BlockT2* block) {
  EncodeRings<2>(x, w, block);
}
inline void EncodeBlock(const float* x, const float* w, BlockT3* block) {
  EncodeRings<3>(x, w, block);
}
inline void EncodeBlock(const float* x, const float* w, BlockT4* block) {
  EncodeRings<4>(x, w, block);
}
inline void EncodeBlock(const float* x, const float* w, BlockT5* block) {
  EncodeRings<5>(x, w, block);
}

template void EncodeBlocks<BlockT2>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockT3>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockT4>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockT5>(const float*, uint8_t*, int64_t, const float*);

}  // namespace thimble

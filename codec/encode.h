// Rows of every quantized type from their weights: what EncodeRow is made of. Each unit of encoders defines
// EncodeBlock for its types and includes this.
//
//   EncodeBlock(x, w, &block): x: the block's weights, finite and at most 1e9 in magnitude. w: their
//   importances, in [0, 1], not all 0. Overwrites the whole block. Of half a block at a row's end, the other
//   weights and their importances are 0.
#pragma once

#include "codec/blocks.h"
#include "codec/fit.h"

namespace thimble {

// Above what any block can hold (65504 * 63 * 31 and the like), and its square is far from F32's limit.
constexpr float kLargest = 1e9f;

inline Lanes Magnitude(Lanes x) {
  return x < 0 ? -x : x;
}

// Values that are not finite count as 0.
inline Lanes Finite(Lanes x) {
  return x - x == 0 ? x : Fill(0);
}

// w = importance * (rms(x) / 2 + |x|), scaled to a maximum of 1. importance may be null.
//
// Plain squared error (w = 1) clips the largest weights, which costs a model more than the sum says; the
// middle way leaves less error than llama.cpp's encoders by either measure.
template <int n>
void ErrorWeights(const float* x, const float* importance, float* w) {
  Lanes squares{}, peaks{};
  for (int i = 0; i < n; i += kLanes) {
    const Lanes v = Load(x + i), magnitude = Magnitude(v);
    squares += v * v;
    peaks = magnitude > peaks ? magnitude : peaks;
  }
  const float peak = Largest(peaks);
  const float half_rms = 0.5f * std::sqrt(Sum(squares) / static_cast<float>(n));
  const float inverse = peak > 0 ? 1 / peak : 0.0f;
  Lanes largest{};
  for (int i = 0; i < n; i += kLanes) {
    Lanes v = peak > 0 ? (half_rms + Magnitude(Load(x + i))) * inverse : Fill(1);
    if (importance != nullptr) {
      const Lanes factor = Finite(Load(importance + i));
      v *= factor > 0 ? factor : Fill(0);
    }
    largest = v > largest ? v : largest;
    memcpy(w + i, &v, sizeof(v));
  }
  const float most = Largest(largest);
  const float scale = most > 0 ? 1 / most : 0.0f;
  // Weights that no activation reached still stay near where they were.
  for (int i = 0; i < n; i += kLanes) {
    Lanes v = Load(w + i) * scale;
    v = most > 0 ? (v > 1e-6f ? v : Fill(1e-6f)) : Fill(1);
    memcpy(w + i, &v, sizeof(v));
  }
}

template <typename Block>
inline void EncodeBlocksInline(const float* src, uint8_t* dst, int64_t n, const float* importance) {
  constexpr int kWeights = Block::kWeights;
  alignas(32) float x[kWeights], w[kWeights];
  const auto clamp = [](const float* from, int count, float* to) {
    for (int k = 0; k < count; k += kLanes) {
      Lanes v = Finite(Load(from + k));
      v = v > kLargest ? Fill(kLargest) : v;
      v = v < -kLargest ? Fill(-kLargest) : v;
      memcpy(to + k, &v, sizeof(v));
    }
  };
  int64_t i = 0;
  for (; i + kWeights <= n; i += kWeights, dst += sizeof(Block)) {
    clamp(src + i, kWeights, x);
    ErrorWeights<kWeights>(x, importance != nullptr ? importance + i : nullptr, w);
    Block block;
    EncodeBlock(x, w, &block);
    memcpy(dst, &block, sizeof(block));
  }
  if (i == n) return;
  constexpr int kHalf = kWeights / 2;
  memset(x, 0, sizeof(x));
  memset(w, 0, sizeof(w));
  clamp(src + i, kHalf, x);
  ErrorWeights<kHalf>(x, importance != nullptr ? importance + i : nullptr, w);
  Block block;
  EncodeBlock(x, w, &block);
  memcpy(dst, &block, Info(Block::kType).half_bytes);
}

// A copy for wider vectors, with everything inlined into it. Sums are in the same order, and AVX2 without FMA
// rounds like SSE2, so the bytes are the same.
#if defined(__x86_64__)
template <typename Block>
[[gnu::target("avx2"), gnu::flatten]] void EncodeBlocksAvx2(const float* src, uint8_t* dst, int64_t n,
                                                            const float* importance) {
  EncodeBlocksInline<Block>(src, dst, n, importance);
}
#endif

// A row of n weights that the type can have. importance: [n] or null.
template <typename Block>
void EncodeBlocks(const float* src, uint8_t* dst, int64_t n, const float* importance) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return EncodeBlocksAvx2<Block>(src, dst, n, importance);
#endif
  EncodeBlocksInline<Block>(src, dst, n, importance);
}

}  // namespace thimble

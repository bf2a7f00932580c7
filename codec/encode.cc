#include "codec/encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "codec/codec.h"

namespace thimble {
namespace {

// Above what any block can hold (65504 * 63 * 31 and the like), and its square is far from F32's limit.
constexpr float kLargest = 1e9f;

float Finite(float x) {
  return std::isfinite(x) ? x : 0.0f;
}

// w = importance * (rms(x) / 2 + |x|), scaled to a maximum of 1.
//
// Plain squared error (w = 1) clips the largest weights, which costs a model more than the sum says; the
// middle way leaves less error than llama.cpp's encoders by either measure.
void ErrorWeights(const float* x, const float* importance, int n, float* w) {
  float squares = 0, peak = 0, largest = 0;
  for (int i = 0; i < n; ++i) {
    squares += x[i] * x[i];
    peak = std::max(peak, std::abs(x[i]));
  }
  const float half_rms = 0.5f * std::sqrt(squares / static_cast<float>(n));
  for (int i = 0; i < n; ++i) {
    w[i] = peak > 0 ? (half_rms + std::abs(x[i])) / peak : 1.0f;
    if (importance != nullptr) w[i] *= std::max(Finite(importance[i]), 0.0f);
    largest = std::max(largest, w[i]);
  }
  // Weights that no activation reached still stay near where they were.
  for (int i = 0; i < n; ++i) w[i] = largest > 0 ? std::max(w[i] / largest, 1e-6f) : 1.0f;
}

template <typename Block>
void EncodeBlocks(const float* src, uint8_t* dst, int64_t n, const float* importance) {
  constexpr int kWeights = Block::kWeights;
  float x[kWeights], w[kWeights];
  for (int64_t i = 0; i < n; i += kWeights, dst += sizeof(Block)) {
    for (int k = 0; k < kWeights; ++k) x[k] = std::clamp(Finite(src[i + k]), -kLargest, kLargest);
    ErrorWeights(x, importance != nullptr ? importance + i : nullptr, kWeights, w);
    Block block;
    EncodeBlock(x, w, &block);
    memcpy(dst, &block, sizeof(block));
  }
}

// F16 and BF16. `largest`: the largest finite value.
template <uint16_t (*kFromFloat)(float)>
void EncodeShorts(const float* src, uint8_t* dst, int64_t n, float largest) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = kFromFloat(std::clamp(Finite(src[i]), -largest, largest));
    memcpy(dst + 2 * i, &bits, sizeof(bits));
  }
}

void EncodeF32(const float* src, uint8_t* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = Finite(src[i]);
    memcpy(dst + 4 * i, &x, sizeof(x));
  }
}

}  // namespace

void EncodeRow(WeightType type, const float* src, void* dst, int64_t n, const float* importance) {
  using enum WeightType;
  CHECK(n % Info(type).block_size == 0);
  uint8_t* bytes = static_cast<uint8_t*>(dst);
  if (type == kF32) return EncodeF32(src, bytes, n);
  if (type == kF16) return EncodeShorts<FloatToHalf>(src, bytes, n, 65504.0f);
  if (type == kBF16) return EncodeShorts<FloatToBf16>(src, bytes, n, 0x1.fep127f);
  CHECK(Info(type).quantized);
  VisitBlock(type, [&]<typename Block>(const Block*) { EncodeBlocks<Block>(src, bytes, n, importance); });
}

}  // namespace thimble

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

// w[0..n) = the importances, scaled to a maximum of 1.
void Normalize(const float* importance, int n, float* w) {
  float largest = 0;
  for (int i = 0; i < n; ++i)
    largest = std::max(largest, std::isfinite(importance[i]) ? importance[i] : 0.0f);
  for (int i = 0; i < n; ++i) {
    // The floor keeps weights that no activation reached near where they were.
    const float ratio = largest > 0 ? std::max(Finite(importance[i]), 0.0f) / largest : 1.0f;
    w[i] = std::max(ratio, 1e-6f);
  }
}

template <typename Block>
void EncodeBlocks(const float* src, uint8_t* dst, int64_t n, const float* importance) {
  float x[Block::kWeights], w[Block::kWeights];
  std::fill_n(w, Block::kWeights, 1.0f);
  for (int64_t i = 0; i < n; i += Block::kWeights, dst += sizeof(Block)) {
    for (int k = 0; k < Block::kWeights; ++k) x[k] = std::clamp(Finite(src[i + k]), -kLargest, kLargest);
    if (importance != nullptr) Normalize(importance + i, Block::kWeights, w);
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

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "codec/blocks.h"
#include "codec/codec.h"

namespace thimble {

template <typename Block>  // encode.h; instantiated beside the encoders
void EncodeBlocks(const float* src, uint8_t* dst, int64_t n, const float* importance);

namespace {

float Finite(float x) {
  return std::isfinite(x) ? x : 0.0f;
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
  CHECK(RowFits(type, n));
  uint8_t* bytes = static_cast<uint8_t*>(dst);
  if (type == kF32) return EncodeF32(src, bytes, n);
  if (type == kF16) return EncodeShorts<FloatToHalf>(src, bytes, n, 65504.0f);
  if (type == kBF16) return EncodeShorts<FloatToBf16>(src, bytes, n, 0x1.fep127f);
  CHECK(Info(type).quantized);
  VisitBlock(type, [&]<typename Block>(const Block*) { EncodeBlocks<Block>(src, bytes, n, importance); });
}

}  // namespace thimble

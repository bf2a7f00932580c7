// Blocks to F32, with gguf-py's order of operations.
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "codec/blocks.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/planes.h"
#include "codec/trellis.h"

namespace thimble {
namespace {

void Decode(const BlockQ4_0& b, float* y) {
  uint8_t q[32] = {};
  UnpackPlanes<4, 16>(b.qs, 32, q);
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(q[i] - 8);
}

void Decode(const BlockQ4_1& b, float* y) {
  uint8_t q[32] = {};
  UnpackPlanes<4, 16>(b.qs, 32, q);
  const float d = HalfToFloat(b.d), m = HalfToFloat(b.m);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(q[i]) + m;
}

void Decode(const BlockQ5_0& b, float* y) {
  uint8_t q[32] = {};
  UnpackPlanes<4, 16>(b.qs, 32, q);
  UnpackPlanes<1, 1>(b.qh, 32, q, 4);
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(q[i] - 16);
}

void Decode(const BlockQ5_1& b, float* y) {
  uint8_t q[32] = {};
  UnpackPlanes<4, 16>(b.qs, 32, q);
  UnpackPlanes<1, 1>(b.qh, 32, q, 4);
  const float d = HalfToFloat(b.d), m = HalfToFloat(b.m);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(q[i]) + m;
}

void Decode(const BlockQ8_0& b, float* y) {
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(b.qs[i]);
}

void Decode(const BlockQ2_K& b, float* y) {
  uint8_t q[256] = {};
  UnpackPlanes<2, 32>(b.qs, 256, q);
  const float d = HalfToFloat(b.d), dmin = HalfToFloat(b.dmin);
  for (int j = 0; j < 16; ++j) {
    const float scale = d * static_cast<float>(b.scales[j] & 15);
    const float min = dmin * static_cast<float>(b.scales[j] >> 4);
    for (int i = 16 * j; i < 16 * j + 16; ++i) y[i] = scale * static_cast<float>(q[i]) - min;
  }
}

void Decode(const BlockQ3_K& b, float* y) {
  uint8_t q[256] = {}, scales[16] = {};
  UnpackPlanes<2, 32>(b.qs, 256, q);
  UnpackPlanes<1, 32>(b.hmask, 256, q, 2);
  UnpackPlanes<4, 8>(b.scales, 16, scales);
  UnpackPlanes<2, 4>(b.scales + 8, 16, scales, 4);
  const float d = HalfToFloat(b.d);
  for (int j = 0; j < 16; ++j) {
    const float scale = d * static_cast<float>(scales[j] - 32);
    for (int i = 16 * j; i < 16 * j + 16; ++i) y[i] = scale * static_cast<float>(q[i] - 4);
  }
}

// Q4_K and Q5_K after their integers.
template <typename Block>
void DecodeScaleMins(const Block& b, const uint8_t q[256], float* y) {
  uint8_t scales[8], mins[8];
  UnpackScaleMins(b.scales, scales, mins);
  const float d = HalfToFloat(b.d), dmin = HalfToFloat(b.dmin);
  for (int j = 0; j < 8; ++j) {
    const float scale = d * static_cast<float>(scales[j]);
    const float min = dmin * static_cast<float>(mins[j]);
    for (int i = 32 * j; i < 32 * j + 32; ++i) y[i] = scale * static_cast<float>(q[i]) - min;
  }
}

void Decode(const BlockQ4_K& b, float* y) {
  uint8_t q[256] = {};
  UnpackPlanes<4, 32>(b.qs, 256, q);
  DecodeScaleMins(b, q, y);
}

void Decode(const BlockQ5_K& b, float* y) {
  uint8_t q[256] = {};
  UnpackPlanes<4, 32>(b.qs, 256, q);
  UnpackPlanes<1, 32>(b.qh, 256, q, 4);
  DecodeScaleMins(b, q, y);
}

void Decode(const BlockQ6_K& b, float* y) {
  uint8_t q[256] = {};
  UnpackPlanes<4, 64>(b.ql, 256, q);
  UnpackPlanes<2, 32>(b.qh, 256, q, 4);
  const float d = HalfToFloat(b.d);
  for (int j = 0; j < 16; ++j) {
    const float scale = d * static_cast<float>(b.scales[j]);
    for (int i = 16 * j; i < 16 * j + 16; ++i) y[i] = scale * static_cast<float>(q[i] - 32);
  }
}

void Decode(const BlockIQ4_NL& b, float* y) {
  uint8_t q[32] = {};
  UnpackPlanes<4, 16>(b.qs, 32, q);
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(kIq4Values[q[i]]);
}

void Decode(const BlockIQ4_XS& b, float* y) {
  uint8_t q[256] = {}, scales[8] = {};
  UnpackPlanes<4, 16>(b.qs, 256, q);
  UnpackPlanes<4, 1>(b.scales_l, 8, scales);
  UnpackPlanes<2, 1>(b.scales_h, 8, scales, 4);
  const float d = HalfToFloat(b.d);
  for (int j = 0; j < 8; ++j) {
    const float scale = d * static_cast<float>(scales[j] - 32);
    for (int i = 32 * j; i < 32 * j + 32; ++i) y[i] = scale * static_cast<float>(kIq4Values[q[i]]);
  }
}

// The low-bit grids, from their blocks' bytes.
template <typename Grid, typename Block>
void DecodeGrid(const Block& b, float* y) {
  static_assert(sizeof(Block) == Grid::kBytes);
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&b);
  const float d = HalfToFloat(b.d) * Grid::kUnit;
  for (int run = 0; run < 32; ++run, y += 8) {
    const uint64_t codes = Grid::Codes(bytes, run);
    const float scale = d * static_cast<float>(Grid::Scale(bytes, run / 2));
    for (int i = 0; i < 8; ++i) y[i] = scale * static_cast<float>(Grid::kValues[codes >> 8 * i & 15]);
  }
}

void Decode(const BlockIQ2_XXS& b, float* y) {
  DecodeGrid<Iq2Xxs>(b, y);
}

void Decode(const BlockIQ2_XS& b, float* y) {
  DecodeGrid<Iq2Xs>(b, y);
}

void Decode(const BlockIQ2_S& b, float* y) {
  DecodeGrid<Iq2S>(b, y);
}

void Decode(const BlockIQ3_XXS& b, float* y) {
  DecodeGrid<Iq3Xxs>(b, y);
}

void Decode(const BlockIQ3_S& b, float* y) {
  DecodeGrid<Iq3S>(b, y);
}

template <int kBits>
void DecodeRing(float scale, const uint8_t* codes, float* y) {
  using Code = Trellis<kBits>;
  constexpr int kRingBits = kRing * kBits;
  const auto nibble = [&](int bit) {
    const int byte = bit % kRingBits / 8, next = (byte + 1) % (kRingBits / 8);
    return (codes[byte] | codes[next] << 8) >> bit % 8 & 15;
  };
  for (int s = 0; s < kRing; ++s) {
    const int sum = Code::kOwn[nibble(kBits * s)] + Code::kNext[nibble(kBits * s + Code::kAhead)];
    y[RingColumn(s)] = scale * static_cast<float>(sum);
  }
}

template <int kBits>
void Decode(const TrellisBlock<kBits>& b, float* y) {
  const float scale = TrellisScale(b.scale);
  DecodeRing<kBits>(scale, b.codes[0], y);
  DecodeRing<kBits>(scale, b.codes[1], y + kRing);
}

template <typename Block>
void DecodeBlocks(const uint8_t* src, float* dst, int64_t n) {
  int64_t i = 0;
  for (; i + Block::kWeights <= n; i += Block::kWeights, src += sizeof(Block)) {
    Block block;
    memcpy(&block, src, sizeof(block));
    Decode(block, dst + i);
  }
  if (i == n) return;
  Block block = {};
  memcpy(&block, src, Info(Block::kType).half_bytes);
  float y[Block::kWeights];
  Decode(block, y);
  memcpy(dst + i, y, static_cast<size_t>(n - i) * sizeof(float));
}

template <float (*kToFloat)(uint16_t)>
void DecodeShorts(const uint8_t* src, float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    memcpy(&bits, src + 2 * i, sizeof(bits));
    dst[i] = kToFloat(bits);
  }
}

void DecodeF32(const uint8_t* src, float* dst, int64_t n) {
  if (n > 0) memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
}

}  // namespace

void DecodeRow(WeightType type, const void* src, float* dst, int64_t n) {
  using enum WeightType;
  CHECK(RowFits(type, n));
  const uint8_t* bytes = static_cast<const uint8_t*>(src);
  if (type == kF32) return DecodeF32(bytes, dst, n);
  if (type == kF16) return DecodeShorts<HalfToFloat>(bytes, dst, n);
  if (type == kBF16) return DecodeShorts<Bf16ToFloat>(bytes, dst, n);
  CHECK(Info(type).quantized);
  VisitBlock(type, [&]<typename Block>(const Block*) { DecodeBlocks<Block>(bytes, dst, n); });
}

}  // namespace thimble

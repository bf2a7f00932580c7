// The low-bit grids. Signs first, which do not depend on the scale; then scales and points for what remains.
#include <bit>

#include "codec/encode.h"
#include "codec/fit_points.h"
#include "codec/fit_super.h"
#include "codec/planes.h"

namespace thimble {
namespace {

// Signs, a bit a weight, and x[0..8) without them. Where their number must be even, the weight that matters
// least has the wrong one.
template <typename Type>
uint8_t TakeSigns(const float* x, const float* w, float* rest) {
  uint32_t signs = 0;
  int least = 0;
  for (int i = 0; i < 8; ++i) {
    signs |= (x[i] < 0 ? 1u : 0u) << i;
    if (w[i] * std::abs(x[i]) < w[least] * std::abs(x[least])) least = i;
  }
  if (Type::kEven && std::popcount(signs) % 2 == 1) signs ^= 1u << least;
  for (int i = 0; i < 8; ++i) rest[i] = (signs >> i & 1) != 0 ? -x[i] : x[i];
  return static_cast<uint8_t>(signs);
}

template <typename Type>
struct Fit {
  uint16_t d;
  uint8_t scales[256 / Type::kSub];
  uint8_t signs[32];
  uint16_t points[256 / Type::kRun];
};

template <typename Type>
Fit<Type> FitPoints(const float* x, const float* w) {
  Fit<Type> fit;
  float rest[256];
  for (int run = 0; run < 32; ++run)
    fit.signs[run] = TakeSigns<Type>(x + 8 * run, w + 8 * run, rest + 8 * run);
  fit.d = FitSuperScales<Points<Type>, OddIntegers, 256 / Type::kSub, 2>(rest, w, fit.scales);
  const float d = HalfToFloat(fit.d);
  for (int i = 0; i < 256; i += Type::kRun) {
    const float scale = d * static_cast<float>(2 * fit.scales[i / Type::kSub] + 1);
    fit.points[i / Type::kRun] = static_cast<uint16_t>(Points<Type>::Nearest(rest + i, w + i, scale));
  }
  return fit;
}

// Seven sign bits of each of four runs, and the scale above them.
void StoreWord(const uint8_t* signs, uint8_t scale, uint8_t* to) {
  uint32_t word = static_cast<uint32_t>(scale) << 28;
  for (int i = 0; i < 4; ++i) word |= (signs[i] & 127u) << 7 * i;
  memcpy(to, &word, sizeof(word));
}

}  // namespace

inline void EncodeBlock(const float* x, const float* w, BlockIQ2_XXS* block) {
  const Fit fit = FitPoints<Iq2Xxs>(x, w);
  block->d = fit.d;
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 4; ++i) block->qs[8 * j + i] = static_cast<uint8_t>(fit.points[4 * j + i]);
    StoreWord(fit.signs + 4 * j, fit.scales[j], block->qs + 8 * j + 4);
  }
}

inline void EncodeBlock(const float* x, const float* w, BlockIQ2_XS* block) {
  const Fit fit = FitPoints<Iq2Xs>(x, w);
  *block = {};
  block->d = fit.d;
  for (int i = 0; i < 32; ++i)
    block->qs[i] = static_cast<uint16_t>(fit.points[i] | (fit.signs[i] & 127) << 9);
  PackPlanes<4, 1>(fit.scales, 16, block->scales);
}

inline void EncodeBlock(const float* x, const float* w, BlockIQ2_S* block) {
  const Fit fit = FitPoints<Iq2S>(x, w);
  *block = {};
  block->d = fit.d;
  for (int i = 0; i < 32; ++i) {
    block->qs[i] = static_cast<uint8_t>(fit.points[i]);
    block->qh[i / 4] |= fit.points[i] >> 8 << 2 * (i % 4);
  }
  memcpy(block->signs, fit.signs, sizeof(block->signs));
  PackPlanes<4, 1>(fit.scales, 16, block->scales);
}

inline void EncodeBlock(const float* x, const float* w, BlockIQ3_XXS* block) {
  const Fit fit = FitPoints<Iq3Xxs>(x, w);
  block->d = fit.d;
  for (int i = 0; i < 64; ++i) block->qs[i] = static_cast<uint8_t>(fit.points[i]);
  for (int j = 0; j < 8; ++j) StoreWord(fit.signs + 4 * j, fit.scales[j], block->words + 4 * j);
}

inline void EncodeBlock(const float* x, const float* w, BlockIQ3_S* block) {
  const Fit fit = FitPoints<Iq3S>(x, w);
  *block = {};
  block->d = fit.d;
  for (int i = 0; i < 64; ++i) {
    block->qs[i] = static_cast<uint8_t>(fit.points[i]);
    block->qh[i / 8] |= fit.points[i] >> 8 << i % 8;
  }
  memcpy(block->signs, fit.signs, sizeof(block->signs));
  PackPlanes<4, 1>(fit.scales, 8, block->scales);
}

template void EncodeBlocks<BlockIQ2_XXS>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockIQ2_XS>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockIQ2_S>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockIQ3_XXS>(const float*, uint8_t*, int64_t, const float*);
template void EncodeBlocks<BlockIQ3_S>(const float*, uint8_t*, int64_t, const float*);

}  // namespace thimble

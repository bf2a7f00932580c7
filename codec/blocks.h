// The layout of every quantized block, as on disk (ggml-common.h). Scales and minimums are F16 bit patterns.
// Packed fields are planes (codec/planes.h); the comment gives bits x stride.
#pragma once

#include <cstdint>
#include <tuple>

#include "codec/types.h"

namespace thimble {

// w = d * (q - 8)
struct BlockQ4_0 {
  static constexpr WeightType kType = WeightType::kQ4_0;
  static constexpr int kWeights = 32;
  uint16_t d;
  uint8_t qs[16];  // 4 x 16
};

// w = d * q + m
struct BlockQ4_1 {
  static constexpr WeightType kType = WeightType::kQ4_1;
  static constexpr int kWeights = 32;
  uint16_t d, m;
  uint8_t qs[16];  // 4 x 16
};

// w = d * (q - 16)
struct BlockQ5_0 {
  static constexpr WeightType kType = WeightType::kQ5_0;
  static constexpr int kWeights = 32;
  uint16_t d;
  uint8_t qh[4];   // bit 4 of q: 1 x 1
  uint8_t qs[16];  // 4 x 16
};

// w = d * q + m
struct BlockQ5_1 {
  static constexpr WeightType kType = WeightType::kQ5_1;
  static constexpr int kWeights = 32;
  uint16_t d, m;
  uint8_t qh[4];   // bit 4 of q: 1 x 1
  uint8_t qs[16];  // 4 x 16
};

// w = d * q
struct BlockQ8_0 {
  static constexpr WeightType kType = WeightType::kQ8_0;
  static constexpr int kWeights = 32;
  uint16_t d;
  int8_t qs[32];
};

// w = (d * scale) * q - (dmin * min), sub-blocks of 16
struct BlockQ2_K {
  static constexpr WeightType kType = WeightType::kQ2_K;
  static constexpr int kWeights = 256;
  uint8_t scales[16];  // scale | min << 4
  uint8_t qs[64];      // 2 x 32
  uint16_t d, dmin;
};

// w = (d * (scale - 32)) * (q - 4), sub-blocks of 16
struct BlockQ3_K {
  static constexpr WeightType kType = WeightType::kQ3_K;
  static constexpr int kWeights = 256;
  uint8_t hmask[32];   // bit 2 of q: 1 x 32
  uint8_t qs[64];      // 2 x 32
  uint8_t scales[12];  // low bits 4 x 8, then high bits 2 x 4
  uint16_t d;
};

// w = (d * scale) * q - (dmin * min), sub-blocks of 32
struct BlockQ4_K {
  static constexpr WeightType kType = WeightType::kQ4_K;
  static constexpr int kWeights = 256;
  uint16_t d, dmin;
  uint8_t scales[12];  // codec/planes.h, PackScaleMins
  uint8_t qs[128];     // 4 x 32
};

// w = (d * scale) * q - (dmin * min), sub-blocks of 32
struct BlockQ5_K {
  static constexpr WeightType kType = WeightType::kQ5_K;
  static constexpr int kWeights = 256;
  uint16_t d, dmin;
  uint8_t scales[12];  // codec/planes.h, PackScaleMins
  uint8_t qh[32];      // bit 4 of q: 1 x 32
  uint8_t qs[128];     // 4 x 32
};

// w = (d * scale) * (q - 32), sub-blocks of 16
struct BlockQ6_K {
  static constexpr WeightType kType = WeightType::kQ6_K;
  static constexpr int kWeights = 256;
  uint8_t ql[128];  // 4 x 64
  uint8_t qh[64];   // bits 4 and 5 of q: 2 x 32
  int8_t scales[16];
  uint16_t d;
};

// The grid of IQ4_NL and IQ4_XS.
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// w = d * kIq4Values[q]
struct BlockIQ4_NL {
  static constexpr WeightType kType = WeightType::kIQ4_NL;
  static constexpr int kWeights = 32;
  uint16_t d;
  uint8_t qs[16];  // 4 x 16
};

// w = (d * (scale - 32)) * kIq4Values[q], sub-blocks of 32
struct BlockIQ4_XS {
  static constexpr WeightType kType = WeightType::kIQ4_XS;
  static constexpr int kWeights = 256;
  uint16_t d;
  uint8_t scales_h[2];  // 2 x 1
  uint8_t scales_l[4];  // 4 x 1
  uint8_t qs[128];      // 4 x 16
};

// The low-bit grids, of 256 weights: codec/iq_grids.h. A word has four runs' sign bits, 7 each, and above
// them the scale of 32 weights.

// Sub-blocks of 32: four points, then a word.
struct BlockIQ2_XXS {
  static constexpr WeightType kType = WeightType::kIQ2_XXS;
  static constexpr int kWeights = 256;
  uint16_t d;
  uint8_t qs[64];
};

// Sub-blocks of 16.
struct BlockIQ2_XS {
  static constexpr WeightType kType = WeightType::kIQ2_XS;
  static constexpr int kWeights = 256;
  uint16_t d;
  uint16_t qs[32];    // point | sign bits << 9
  uint8_t scales[8];  // 4 x 1
};

// Sub-blocks of 16.
struct BlockIQ2_S {
  static constexpr WeightType kType = WeightType::kIQ2_S;
  static constexpr int kWeights = 256;
  uint16_t d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];      // bits 8 and 9 of the point: 2 x 1
  uint8_t scales[8];  // 4 x 1
};

// Sub-blocks of 32.
struct BlockIQ3_XXS {
  static constexpr WeightType kType = WeightType::kIQ3_XXS;
  static constexpr int kWeights = 256;
  uint16_t d;
  uint8_t qs[64];
  uint8_t words[32];
};

// Sub-blocks of 32.
struct BlockIQ3_S {
  static constexpr WeightType kType = WeightType::kIQ3_S;
  static constexpr int kWeights = 256;
  uint16_t d;
  uint8_t qs[64];
  uint8_t qh[8];  // bit 8 of the point: 1 x 1
  uint8_t signs[32];
  uint8_t scales[4];  // 4 x 1
};

// Two rings of 32 weights: codec/trellis.h. The second is missing in half a block at a row's end.
template <int kBits>
struct TrellisBlock {
  static constexpr int kWeights = 64;
  uint8_t scale;
  uint8_t codes[2][4 * kBits];
};
struct BlockT2 : TrellisBlock<2> {
  static constexpr WeightType kType = WeightType::kT2;
};
struct BlockT3 : TrellisBlock<3> {
  static constexpr WeightType kType = WeightType::kT3;
};
struct BlockT4 : TrellisBlock<4> {
  static constexpr WeightType kType = WeightType::kT4;
};
struct BlockT5 : TrellisBlock<5> {
  static constexpr WeightType kType = WeightType::kT5;
};

using AllBlocks =
    std::tuple<BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ2_K, BlockQ3_K, BlockQ4_K,
               BlockQ5_K, BlockQ6_K, BlockIQ4_NL, BlockIQ4_XS, BlockIQ2_XXS, BlockIQ2_XS, BlockIQ2_S,
               BlockIQ3_XXS, BlockIQ3_S, BlockT2, BlockT3, BlockT4, BlockT5>;

// visitor(static_cast<const Block*>(nullptr)) for the block of a quantized type; nothing for other types.
template <typename Visitor>
void VisitBlock(WeightType type, Visitor&& visitor) {
  const auto visit = [&]<typename Block>(const Block* block) {
    if (Block::kType == type) visitor(block);
  };
  const auto visit_all = [&]<typename... Blocks>(std::tuple<Blocks...>*) {
    (visit(static_cast<const Blocks*>(nullptr)), ...);
  };
  visit_all(static_cast<AllBlocks*>(nullptr));
}

}  // namespace thimble

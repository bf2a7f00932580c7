#include "codec/pack.h"

#include "codec/planes.h"

namespace thimble {

void PackBlock(const BlockCodes& codes, BlockQ4_0* block) {
  *block = {.d = codes.d, .qs = {}};
  PackPlanes<4, 16>(codes.q, 32, block->qs);
}

void PackBlock(const BlockCodes& codes, BlockQ4_1* block) {
  *block = {.d = codes.d, .m = codes.m, .qs = {}};
  PackPlanes<4, 16>(codes.q, 32, block->qs);
}

void PackBlock(const BlockCodes& codes, BlockQ5_0* block) {
  *block = {.d = codes.d, .qh = {}, .qs = {}};
  PackPlanes<4, 16>(codes.q, 32, block->qs);
  PackPlanes<1, 1>(codes.q, 32, block->qh, 4);
}

void PackBlock(const BlockCodes& codes, BlockQ5_1* block) {
  *block = {.d = codes.d, .m = codes.m, .qh = {}, .qs = {}};
  PackPlanes<4, 16>(codes.q, 32, block->qs);
  PackPlanes<1, 1>(codes.q, 32, block->qh, 4);
}

void PackBlock(const BlockCodes& codes, BlockQ8_0* block) {
  block->d = codes.d;
  for (int i = 0; i < 32; ++i) block->qs[i] = static_cast<int8_t>(codes.q[i] - 127);
}

void PackBlock(const BlockCodes& codes, BlockQ2_K* block) {
  *block = {.scales = {}, .qs = {}, .d = codes.d, .dmin = codes.m};
  for (int j = 0; j < 16; ++j) block->scales[j] = codes.scales[j] | codes.mins[j] << 4;
  PackPlanes<2, 32>(codes.q, 256, block->qs);
}

void PackBlock(const BlockCodes& codes, BlockQ3_K* block) {
  *block = {.hmask = {}, .qs = {}, .scales = {}, .d = codes.d};
  PackPlanes<4, 8>(codes.scales, 16, block->scales);
  PackPlanes<2, 4>(codes.scales, 16, block->scales + 8, 4);
  PackPlanes<2, 32>(codes.q, 256, block->qs);
  PackPlanes<1, 32>(codes.q, 256, block->hmask, 2);
}

void PackBlock(const BlockCodes& codes, BlockQ4_K* block) {
  *block = {.d = codes.d, .dmin = codes.m, .scales = {}, .qs = {}};
  PackScaleMins(codes.scales, codes.mins, block->scales);
  PackPlanes<4, 32>(codes.q, 256, block->qs);
}

void PackBlock(const BlockCodes& codes, BlockQ5_K* block) {
  *block = {.d = codes.d, .dmin = codes.m, .scales = {}, .qh = {}, .qs = {}};
  PackScaleMins(codes.scales, codes.mins, block->scales);
  PackPlanes<4, 32>(codes.q, 256, block->qs);
  PackPlanes<1, 32>(codes.q, 256, block->qh, 4);
}

void PackBlock(const BlockCodes& codes, BlockQ6_K* block) {
  *block = {.ql = {}, .qh = {}, .scales = {}, .d = codes.d};
  for (int j = 0; j < 16; ++j) block->scales[j] = static_cast<int8_t>(codes.scales[j] - 128);
  PackPlanes<4, 64>(codes.q, 256, block->ql);
  PackPlanes<2, 32>(codes.q, 256, block->qh, 4);
}

void PackBlock(const BlockCodes& codes, BlockIQ4_NL* block) {
  *block = {.d = codes.d, .qs = {}};
  PackPlanes<4, 16>(codes.q, 32, block->qs);
}

void PackBlock(const BlockCodes& codes, BlockIQ4_XS* block) {
  *block = {.d = codes.d, .scales_h = {}, .scales_l = {}, .qs = {}};
  PackPlanes<4, 16>(codes.q, 256, block->qs);
  PackPlanes<4, 1>(codes.scales, 8, block->scales_l);
  PackPlanes<2, 1>(codes.scales, 8, block->scales_h, 4);
}

}  // namespace thimble

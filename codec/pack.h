// A quantized block as plain numbers, and its bytes on disk.
#pragma once

#include "codec/blocks.h"

namespace thimble {

// What a block stores, unpacked: scale and minimum (F16 bits), the codes of sub-blocks' scales and minimums,
// and the codes of weights. A code counts from the lowest value that the field can hold, e.g. 8 for 0 in
// Q4_0.
struct BlockCodes {
  uint16_t d = 0, m = 0;
  uint8_t scales[16] = {}, mins[16] = {};
  uint8_t q[256] = {};
};

// Overwrites the whole block.
void PackBlock(const BlockCodes& codes, BlockQ4_0* block);
void PackBlock(const BlockCodes& codes, BlockQ4_1* block);
void PackBlock(const BlockCodes& codes, BlockQ5_0* block);
void PackBlock(const BlockCodes& codes, BlockQ5_1* block);
void PackBlock(const BlockCodes& codes, BlockQ8_0* block);
void PackBlock(const BlockCodes& codes, BlockQ2_K* block);
void PackBlock(const BlockCodes& codes, BlockQ3_K* block);
void PackBlock(const BlockCodes& codes, BlockQ4_K* block);
void PackBlock(const BlockCodes& codes, BlockQ5_K* block);
void PackBlock(const BlockCodes& codes, BlockQ6_K* block);
void PackBlock(const BlockCodes& codes, BlockIQ4_NL* block);
void PackBlock(const BlockCodes& codes, BlockIQ4_XS* block);

}  // namespace thimble

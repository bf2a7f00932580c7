// One block of every quantized type from its weights: what EncodeRow is made of.
#pragma once

#include "codec/blocks.h"

namespace thimble {

// x: the block's weights, finite and at most 1e9 in magnitude. w: their importances, in [0, 1], not all 0.
// Overwrites the whole block.
void EncodeBlock(const float* x, const float* w, BlockQ4_0* block);
void EncodeBlock(const float* x, const float* w, BlockQ4_1* block);
void EncodeBlock(const float* x, const float* w, BlockQ5_0* block);
void EncodeBlock(const float* x, const float* w, BlockQ5_1* block);
void EncodeBlock(const float* x, const float* w, BlockQ8_0* block);
void EncodeBlock(const float* x, const float* w, BlockQ2_K* block);
void EncodeBlock(const float* x, const float* w, BlockQ3_K* block);
void EncodeBlock(const float* x, const float* w, BlockQ4_K* block);
void EncodeBlock(const float* x, const float* w, BlockQ5_K* block);
void EncodeBlock(const float* x, const float* w, BlockQ6_K* block);
void EncodeBlock(const float* x, const float* w, BlockIQ4_NL* block);
void EncodeBlock(const float* x, const float* w, BlockIQ4_XS* block);
void EncodeBlock(const float* x, const float* w, BlockIQ2_XXS* block);
void EncodeBlock(const float* x, const float* w, BlockIQ2_XS* block);
void EncodeBlock(const float* x, const float* w, BlockIQ2_S* block);
void EncodeBlock(const float* x, const float* w, BlockIQ3_XXS* block);
void EncodeBlock(const float* x, const float* w, BlockIQ3_S* block);

}  // namespace thimble

// The forward pass of attention over blocks of keys, with an online softmax (FlashAttention, Dao et al.
// 2022).
//
// A query's result is the same to the bit however many queries stand beside it, on however many threads: keys
// are added up in the order of their blocks, blocks within spans whose ends are fixed positions, then spans.
#pragma once

#include <span>

#include "ops/kv_blocks.h"

namespace thimble {

struct AttentionParams {
  int64_t n_heads = 1, n_kv_heads = 1, head_dim = 1;
  float scale = 1;     // on q k^T
  int64_t window = 0;  // > 0: a query sees the last `window` keys, itself included
};

// Rows [begin, begin + n) of q, which stand at positions [position, position + n) of a sequence.
struct Queries {
  int64_t begin = 0, n = 0, position = 0;
  KvBlocks kv;
};

// Fills the rows of y (shaped as q, [T, n_heads * head_dim]) that the queries name.
void BlockAttention(const Context& ctx, const Tensor& q, std::span<const Queries> queries,
                    const AttentionParams& params, const Tensor& y);

}  // namespace thimble

// Causal grouped-query attention: over a cache when generating, over the batch when training.
#pragma once

#include <vector>

#include "ops/block_attention.h"

namespace thimble {

// One sequence: queries [q_begin, q_begin + q_len) see keys [kv_begin, kv_begin + kv_len); the last query
// stands at the last key.
struct AttentionSegment {
  int64_t q_begin = 0, q_len = 0, kv_begin = 0, kv_len = 0;
};

// q [T, n_heads * head_dim]; k and v [S, n_kv_heads * head_dim]; result as q. Backward fills dq, dk and dv.
// In BF16 (ops/bf16_attention.h) only rounded copies are kept for it: what q, k and v held is gone after the
// call.
Tensor Attention(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                 std::vector<AttentionSegment> segments, const AttentionParams& params);
// One sequence whose keys and values, up to those of the last query, are in a cache. Without a backward pass.
Tensor CachedAttention(const Context& ctx, const Tensor& q, int64_t position, const KvBlocks& kv,
                       const AttentionParams& params);

}  // namespace thimble

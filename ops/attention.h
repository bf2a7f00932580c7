// Causal grouped-query attention over key/value views: the cache when generating, the batch when training.
#pragma once

#include <vector>

#include "ops/context.h"

namespace thimble {

// One sequence: queries [q_begin, q_begin + q_len) see keys [kv_begin, kv_begin + kv_len); the last query
// stands at the last key. In training q and kv coincide; when generating kv is the cache, with what came
// before.
struct AttentionSegment {
  int64_t q_begin = 0, q_len = 0, kv_begin = 0, kv_len = 0;
};

struct AttentionParams {
  int64_t n_heads = 1, n_kv_heads = 1, head_dim = 1;
  float scale = 1;     // on q k^T
  int64_t window = 0;  // > 0: a query sees the last `window` keys, itself included
};

// q [T, n_heads * head_dim]; k and v [S, n_kv_heads * head_dim]; result as q. Backward fills dq, dk and dv.
Tensor Attention(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                 std::vector<AttentionSegment> segments, const AttentionParams& params);

}  // namespace thimble

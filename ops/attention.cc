#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "ops/bf16_attention.h"

namespace thimble {
namespace {

constexpr int64_t kQueryBlock = 32;

// A block of queries of one head in one segment, with the keys that any of them sees.
struct Block {
  int64_t q_row, n_q;    // rows of q
  int64_t kv_row, n_kv;  // rows of k and v
  int64_t first_key;     // index of kv_row within the segment
  int64_t first_query;   // position of q_row within the segment's keys
  int64_t head;
};

float* Scratch(int64_t n) {
  thread_local std::vector<float> buffer;
  if (buffer.size() < static_cast<size_t>(n)) buffer.resize(static_cast<size_t>(n));
  return buffer.data();
}

Block MakeBlock(const AttentionSegment& s, const AttentionParams& p, int64_t head, int64_t offset) {
  Block b;
  b.head = head;
  b.n_q = std::min(kQueryBlock, s.q_len - offset);
  b.q_row = s.q_begin + offset;
  b.first_query = s.kv_len - s.q_len + offset;
  const int64_t last_key = b.first_query + b.n_q;  // exclusive
  b.first_key = p.window > 0 ? std::max<int64_t>(0, b.first_query - p.window + 1) : 0;
  b.kv_row = s.kv_begin + b.first_key;
  b.n_kv = last_key - b.first_key;
  return b;
}

// The keys that query i of the block sees, as [begin, end) within the block's keys.
std::pair<int64_t, int64_t> VisibleKeys(const Block& b, const AttentionParams& p, int64_t i) {
  const int64_t position = b.first_query + i;
  const int64_t begin = p.window > 0 ? std::max<int64_t>(0, position - p.window + 1) : 0;
  return {begin - b.first_key, position + 1 - b.first_key};
}

struct Views {
  const float *q, *k, *v;
  int64_t ldq, ldkv;
};

Views HeadViews(const Block& b, const AttentionParams& p, const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t kv_head = b.head / (p.n_heads / p.n_kv_heads);
  return {q.row(b.q_row) + b.head * p.head_dim, k.row(b.kv_row) + kv_head * p.head_dim,
          v.row(b.kv_row) + kv_head * p.head_dim, q.cols(), k.cols()};
}

// scores [n_q, n_kv] = softmax(scale q k^T) with unseen keys at 0.
void Probabilities(const Context& ctx, const Block& b, const AttentionParams& p, const Views& view,
                   float* scores) {
  ctx.kernels.gemm_nt(b.n_q, b.n_kv, p.head_dim, view.q, view.ldq, view.k, view.ldkv, scores, b.n_kv, false);
  for (int64_t i = 0; i < b.n_q; ++i) {
    float* row = scores + i * b.n_kv;
    const auto [begin, end] = VisibleKeys(b, p, i);
    std::fill(row, row + begin, 0.0f);
    for (int64_t j = begin; j < end; ++j) row[j] *= p.scale;
    ctx.kernels.softmax(row + begin, end - begin);
    std::fill(row + end, row + b.n_kv, 0.0f);
  }
}

void BackwardBlock(const Context& ctx, const Block& b, const AttentionParams& p, const Tensor& q,
                   const Tensor& k, const Tensor& v, const Tensor& y) {
  const Views view = HeadViews(b, p, q, k, v);
  float* probabilities = Scratch(2 * b.n_q * b.n_kv);
  float* ds = probabilities + b.n_q * b.n_kv;
  Probabilities(ctx, b, p, view, probabilities);
  const int64_t q_offset = view.q - q.data(), kv_offset = view.k - k.data();
  const float* dy = y.grad() + q_offset;
  const auto& kernels = ctx.kernels;
  kernels.gemm_tn(b.n_kv, p.head_dim, b.n_q, probabilities, b.n_kv, dy, view.ldq, v.grad() + kv_offset,
                  view.ldkv, true);
  kernels.gemm_nt(b.n_q, b.n_kv, p.head_dim, dy, view.ldq, view.v, view.ldkv, ds, b.n_kv, false);
  for (int64_t i = 0; i < b.n_q; ++i) {  // d softmax: P * (dP - sum(dP * P)), and sum(dP * P) = dy . y
    const float sum = kernels.dot(dy + i * view.ldq, y.data() + q_offset + i * view.ldq, p.head_dim);
    for (int64_t j = 0; j < b.n_kv; ++j) {
      const int64_t at = i * b.n_kv + j;
      ds[at] = p.scale * probabilities[at] * (ds[at] - sum);
    }
  }
  kernels.gemm_nn(b.n_q, p.head_dim, b.n_kv, ds, b.n_kv, view.k, view.ldkv, q.grad() + q_offset, view.ldq,
                  true);
  kernels.gemm_tn(b.n_kv, p.head_dim, b.n_q, ds, b.n_kv, view.q, view.ldq, k.grad() + kv_offset, view.ldkv,
                  true);
}

// Backward tasks own one kv head of one segment, so that no two threads add to the same dk and dv.
void Backward(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
              const std::vector<AttentionSegment>& segments, const AttentionParams& p, const Tensor& y) {
  y.grad(), q.grad(), k.grad(), v.grad();  // allocate before the threads start
  const int64_t group = p.n_heads / p.n_kv_heads;
  const int64_t n_tasks = static_cast<int64_t>(segments.size()) * p.n_kv_heads;
  ctx.pool.ParallelFor(n_tasks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      const AttentionSegment& s = segments[task / p.n_kv_heads];
      for (int64_t h = 0; h < group; ++h) {
        const int64_t head = task % p.n_kv_heads * group + h;
        for (int64_t offset = 0; offset < s.q_len; offset += kQueryBlock) {
          BackwardBlock(ctx, MakeBlock(s, p, head, offset), p, q, k, v, y);
        }
      }
    }
  });
}

// Keys and values of the segments, copied into blocks.
class SegmentBlocks {
 public:
  SegmentBlocks(const Context& ctx, const Tensor& k, const Tensor& v,
                const std::vector<AttentionSegment>& segments, const AttentionParams& p) {
    const KvFormat format{{WeightType::kF32, WeightType::kF32}, p.n_kv_heads, p.head_dim};
    const auto n_blocks = [](const AttentionSegment& s) { return (s.kv_len + kKeyBlock - 1) / kKeyBlock; };
    int64_t total = 0;
    for (const AttentionSegment& s : segments) total += n_blocks(s);
    memory_ = Tensor::Empty(total, static_cast<int64_t>(format.block_bytes() / sizeof(float)));
    for (int64_t i = 0; i < total; ++i) blocks_.push_back(reinterpret_cast<uint8_t*>(memory_.row(i)));
    size_t first = 0;
    for (const AttentionSegment& s : segments) {
      const size_t n = static_cast<size_t>(n_blocks(s));
      queries_.push_back(
          {s.q_begin, s.q_len, s.kv_len - s.q_len, {format, std::span(blocks_).subspan(first, n)}});
      StoreKeysAndValues(ctx, k, v, s.kv_begin, s.kv_len, queries_.back().kv, 0);
      first += n;
    }
  }
  std::span<const Queries> queries() const { return queries_; }

 private:
  Tensor memory_;
  std::vector<uint8_t*> blocks_;
  std::vector<Queries> queries_;
};

}  // namespace

Tensor Attention(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                 std::vector<AttentionSegment> segments, const AttentionParams& p) {
  CHECK(k.cols() == p.n_kv_heads * p.head_dim && v.cols() == k.cols());
  for (const AttentionSegment& s : segments) {
    CHECK(s.kv_len >= s.q_len && s.q_begin + s.q_len <= q.rows() && s.kv_begin + s.kv_len <= k.rows());
  }
  Tensor y = Tensor::Empty(q.rows(), q.cols());
  const bool records = ctx.Records({q, k, v});
  y.set_requires_grad(records);
  if (UsesBf16Attention(ctx, p)) {
    const Bf16Operands operands = RoundedOperands(ctx, q, k, v);
    const Tensor log_sums = Tensor::Empty(q.rows(), p.n_heads);
    Bf16Attention(ctx, operands, segments, p, y, log_sums);
    if (!records) return y;
    for (const Tensor& x : {q, k, v}) x.DropData();
    ctx.tape->Record([ctx, operands, q, k, v, y, p, log_sums, segments = std::move(segments)] {
      Bf16AttentionBackward(ctx, operands, q, k, v, segments, p, y, log_sums);
    });
    return y;
  }
  BlockAttention(ctx, q, SegmentBlocks(ctx, k, v, segments, p).queries(), p, y);
  if (records) {
    ctx.tape->Record(
        [ctx, q, k, v, y, p, segments = std::move(segments)] { Backward(ctx, q, k, v, segments, p, y); });
  }
  return y;
}

Tensor CachedAttention(const Context& ctx, const Tensor& q, int64_t position, const KvBlocks& kv,
                       const AttentionParams& p) {
  CHECK(ctx.tape == nullptr);
  Tensor y = Tensor::Empty(q.rows(), q.cols());
  const Queries queries{0, q.rows(), position, kv};
  BlockAttention(ctx, q, {&queries, 1}, p, y);
  return y;
}

}  // namespace thimble

#include "ops/block_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 96;             // rows that are multiplied with a block of keys at once
constexpr int64_t kSpan = 4 * kKeyBlock;  // keys that one thread may be given
constexpr int64_t kDiagonalRows = 48;     // the same where the causal mask cuts through the block
// Less work than this (multiply-adds, with those that decoding a block is worth) is not worth a second
// thread.
constexpr int64_t kMinWork = 1 << 18;

// What one thread does without a pause: the rows of a few queries in all heads that share a kv head, row
// i * group + h being head h of query i.
struct Piece {
  const Queries* queries;
  int64_t kv_head, first, n;  // queries [first, first + n) of *queries

  int64_t position() const { return queries->position + first; }
  int64_t end() const { return position() + n; }  // of the keys that its last query sees
  int64_t first_key(int64_t window) const {       // that its first query sees
    return window > 0 ? std::max<int64_t>(0, position() - window + 1) : 0;
  }
};

// The online softmax of some rows: what has been added up, relative to exp(max).
struct State {
  float* out;  // [rows, head_dim]
  float *max, *sum;

  static int64_t Size(int64_t rows, int64_t head_dim) { return rows * (head_dim + 2); }
  static State At(float* memory, int64_t rows, int64_t head_dim) {
    return {memory, memory + rows * head_dim, memory + rows * (head_dim + 1)};
  }
  void Clear(int64_t rows, int64_t head_dim) const {
    std::fill(out, out + rows * head_dim, 0.0f);
    std::fill(max, max + rows, -std::numeric_limits<float>::infinity());
    std::fill(sum, sum + rows, 0.0f);
  }
};

template <typename T>
void Grow(std::vector<T>& v, int64_t n) {
  if (v.size() < static_cast<size_t>(n)) v.resize(static_cast<size_t>(n));
}

// Memory of one thread.
struct Scratch {
  std::vector<float> q, scores, keys, values, state;
  std::vector<VisibleKeys> visible;

  void Resize(int64_t rows, int64_t head_dim) {
    Grow(q, rows * head_dim), Grow(scores, rows * kKeyBlock), Grow(visible, rows);
    Grow(keys, kKeyBlock * head_dim), Grow(values, kKeyBlock * head_dim);
    Grow(state, 2 * State::Size(rows, head_dim));
  }
};

Scratch& ThreadScratch(int64_t rows, int64_t head_dim) {
  thread_local Scratch scratch;
  scratch.Resize(rows, head_dim);
  return scratch;
}

class Attender {
 public:
  Attender(const Context& ctx, const Tensor& q, const AttentionParams& p, const Tensor& y)
      : kernels_(ctx.kernels), q_(q), p_(p), y_(y), group_(p.n_heads / p.n_kv_heads) {}

  int64_t Rows(const Piece& piece) const { return piece.n * group_; }
  int64_t FirstSpan(const Piece& piece) const { return piece.first_key(p_.window) / kSpan; }
  static int64_t EndSpan(const Piece& piece) { return (piece.end() - 1) / kSpan + 1; }

  // All spans, one after another.
  void Run(const Piece& piece) const {
    const int64_t rows = Rows(piece), d = p_.head_dim;
    Scratch& scratch = ThreadScratch(rows, d);
    LoadQueries(piece, scratch);
    const State total = State::At(scratch.state.data(), rows, d);
    const State part = State::At(scratch.state.data() + State::Size(rows, d), rows, d);
    RunSpan(piece, FirstSpan(piece), scratch, total);
    for (int64_t span = FirstSpan(piece) + 1; span < EndSpan(piece); ++span) {
      RunSpan(piece, span, scratch, part);
      Merge(rows, part, total);
    }
    StoreResult(piece, total);
  }

  // The same, when the spans are run one by one, in any order, into `parts`, a State each.
  void RunOneSpan(const Piece& piece, int64_t span, float* parts) const {
    Scratch& scratch = ThreadScratch(Rows(piece), p_.head_dim);
    LoadQueries(piece, scratch);
    RunSpan(piece, span, scratch, Part(piece, span, parts));
  }
  void MergeSpans(const Piece& piece, float* parts) const {
    const State total = Part(piece, FirstSpan(piece), parts);
    for (int64_t span = FirstSpan(piece) + 1; span < EndSpan(piece); ++span) {
      Merge(Rows(piece), Part(piece, span, parts), total);
    }
    StoreResult(piece, total);
  }

 private:
  State Part(const Piece& piece, int64_t span, float* parts) const {
    const int64_t rows = Rows(piece), d = p_.head_dim;
    return State::At(parts + (span - FirstSpan(piece)) * State::Size(rows, d), rows, d);
  }

  void LoadQueries(const Piece& piece, Scratch& scratch) const {
    const int64_t width = group_ * p_.head_dim;
    for (int64_t i = 0; i < piece.n; ++i) {
      const float* from = q_.row(piece.queries->begin + piece.first + i) + piece.kv_head * width;
      for (int64_t j = 0; j < width; ++j) scratch.q[static_cast<size_t>(i * width + j)] = p_.scale * from[j];
    }
  }

  void StoreResult(const Piece& piece, const State& total) const {
    const int64_t d = p_.head_dim;
    for (int64_t r = 0; r < Rows(piece); ++r) {
      float* to =
          y_.row(piece.queries->begin + piece.first + r / group_) + (piece.kv_head * group_ + r % group_) * d;
      const float factor = total.sum[r] == 0 ? 0.0f : 1 / total.sum[r];  // 0 where all scores are -infinity
      for (int64_t i = 0; i < d; ++i) to[i] = factor * total.out[r * d + i];
    }
  }

  void RunSpan(const Piece& piece, int64_t span, Scratch& scratch, const State& state) const {
    const int64_t first = std::max(span * kSpan, piece.first_key(p_.window)) / kKeyBlock;
    const int64_t end = std::min((span + 1) * kSpan, piece.end());
    state.Clear(Rows(piece), p_.head_dim);
    for (int64_t block = first; block * kKeyBlock < end; ++block) {
      RunBlock(piece, block, std::min<int64_t>(kKeyBlock, end - block * kKeyBlock), scratch, state);
    }
  }

  // Adds the first n_keys of a block.
  void RunBlock(const Piece& piece, int64_t block, int64_t n_keys, Scratch& scratch,
                const State& state) const {
    const int64_t d = p_.head_dim, first_key = block * kKeyBlock;
    const auto [k_type, v_type] = piece.queries->kv.format.types;
    const float* keys = reinterpret_cast<const float*>(piece.queries->kv.keys(block, piece.kv_head));
    if (k_type != WeightType::kF32) {
      kernels_.decode_keys[static_cast<size_t>(k_type)](keys, scratch.keys.data(), d);
      keys = scratch.keys.data();
    }
    const float* values = reinterpret_cast<const float*>(piece.queries->kv.values(block, piece.kv_head));
    if (v_type != WeightType::kF32) {
      kernels_.decode_row[static_cast<size_t>(v_type)](values, scratch.values.data(), n_keys * d);
      values = scratch.values.data();
    }
    SetVisible(piece, first_key, scratch.visible.data());
    // Where not all see all keys, a few queries at a time: most of what is multiplied is then seen.
    const bool all = piece.position() + 1 >= first_key + n_keys;
    const int64_t step = all ? piece.n : std::max<int64_t>(1, kDiagonalRows / group_);
    for (int64_t i = 0; i < piece.n; i += step) {
      const int64_t n = std::min(step, piece.n - i), seen = piece.position() + i + n - first_key;
      if (seen > 0) AddKeys(i * group_, n * group_, keys, values, std::min(seen, n_keys), scratch, state);
    }
  }

  // Adds a block's first n_keys to some rows.
  void AddKeys(int64_t first, int64_t rows, const float* keys, const float* values, int64_t n_keys,
               Scratch& scratch, const State& state) const {
    const int64_t d = p_.head_dim;
    float* scores = scratch.scores.data() + first * kKeyBlock;
    float* out = state.out + first * d;
    const int64_t columns = (n_keys + 15) / 16 * 16;  // whole vectors; the keys behind the last are not seen
    kernels_.gemm_nn(rows, columns, d, scratch.q.data() + first * d, d, keys, kKeyBlock, scores, kKeyBlock,
                     false);
    kernels_.softmax_step(rows, scores, scratch.visible.data() + first, state.max + first, state.sum + first,
                          out, d);
    kernels_.gemm_nn(rows, d, n_keys, scores, kKeyBlock, values, d, out, d, true);
  }

  void SetVisible(const Piece& piece, int64_t first_key, VisibleKeys* visible) const {
    const auto cut = [](int64_t at) { return static_cast<int32_t>(std::clamp<int64_t>(at, 0, kKeyBlock)); };
    for (int64_t i = 0; i < piece.n; ++i) {
      const int64_t end = piece.position() + i + 1 - first_key;
      const VisibleKeys keys{p_.window > 0 ? cut(end - p_.window) : 0, cut(end)};
      std::fill_n(visible + i * group_, group_, keys);
    }
  }

  // Adds a span's state to those before it.
  void Merge(int64_t rows, const State& part, const State& total) const {
    constexpr float kNothing = -std::numeric_limits<float>::infinity();
    const int64_t d = p_.head_dim;
    for (int64_t r = 0; r < rows; ++r) {
      if (part.max[r] == kNothing) continue;
      const float max = std::max(part.max[r], total.max[r]);
      const float keep = std::exp(total.max[r] - max), add = std::exp(part.max[r] - max);
      total.max[r] = max;
      total.sum[r] = total.sum[r] * keep + part.sum[r] * add;
      for (int64_t i = r * d; i < (r + 1) * d; ++i) total.out[i] = total.out[i] * keep + part.out[i] * add;
    }
  }

  const KernelTable& kernels_;
  const Tensor& q_;
  const AttentionParams& p_;
  const Tensor& y_;
  const int64_t group_;
};

// Splits the spans of few pieces among the threads.
void RunSpans(const Context& ctx, const Attender& attender, const std::vector<Piece>& pieces, int64_t n_spans,
              int64_t grain, int64_t head_dim) {
  int64_t rows = 0;
  for (const Piece& piece : pieces) rows = std::max(rows, attender.Rows(piece));
  const int64_t stride = n_spans * State::Size(rows, head_dim);
  thread_local std::vector<float> memory;
  Grow(memory, stride * static_cast<int64_t>(pieces.size()));
  float* parts = memory.data();
  const int64_t items = static_cast<int64_t>(pieces.size()) * n_spans;
  ctx.pool.ParallelFor(items, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const Piece& piece = pieces[static_cast<size_t>(item / n_spans)];
      const int64_t span = attender.FirstSpan(piece) + item % n_spans;
      if (span >= Attender::EndSpan(piece)) continue;
      attender.RunOneSpan(piece, span, parts + item / n_spans * stride);
    }
  });
  for (size_t i = 0; i < pieces.size(); ++i) {
    attender.MergeSpans(pieces[i], parts + static_cast<int64_t>(i) * stride);
  }
}

}  // namespace

void BlockAttention(const Context& ctx, const Tensor& q, std::span<const Queries> queries,
                    const AttentionParams& p, const Tensor& y) {
  CHECK(q.cols() == p.n_heads * p.head_dim && p.n_heads % p.n_kv_heads == 0);
  CHECK(y.rows() == q.rows() && y.cols() == q.cols());
  const Attender attender(ctx, q, p, y);
  const int64_t step = std::max<int64_t>(1, kRows / (p.n_heads / p.n_kv_heads));
  thread_local std::vector<Piece> thread_pieces;
  std::vector<Piece>& pieces = thread_pieces;  // of this thread, also for the others
  pieces.clear();
  int64_t n_spans = 0, work = 0;
  for (const Queries& seq : queries) {
    CHECK(seq.begin + seq.n <= q.rows());
    // The last queries see the most keys: they go first, so that the threads end together.
    for (int64_t first = (seq.n - 1) / step * step; first >= 0; first -= step) {
      for (int64_t head = 0; head < p.n_kv_heads; ++head) {
        const Piece& piece = pieces.emplace_back(Piece{&seq, head, first, std::min(step, seq.n - first)});
        n_spans = std::max(n_spans, Attender::EndSpan(piece) - attender.FirstSpan(piece));
        work += (piece.end() - piece.first_key(p.window)) * p.head_dim * (attender.Rows(piece) + 4);
      }
    }
  }
  if (pieces.empty()) return;
  const int64_t n = static_cast<int64_t>(pieces.size());
  if (n_spans > 1 && n < 4 * ctx.pool.n_threads() && ctx.pool.n_threads() > 1) {
    RunSpans(ctx, attender, pieces, n_spans, work < kMinWork ? n * n_spans : 1, p.head_dim);
    return;
  }
  ctx.pool.ParallelFor(n, work < kMinWork ? n : 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) attender.Run(pieces[static_cast<size_t>(i)]);
  });
}

}  // namespace thimble

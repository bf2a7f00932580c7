#include "ops/bf16_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "ops/decoded_rows.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 96;              // rows that are multiplied with a block of keys at once
constexpr int64_t kChunk = 4 * kKeyBlock;  // queries, and keys, of a piece of the backward pass
constexpr int64_t kDepth = 32;  // of a tile: the kernels are fastest where a sum is over a multiple of it
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Memory of one thread, kept between calls, that begins at a cache line.
template <typename T>
class Buffer {
 public:
  T* Get(int64_t n) {
    const size_t lines = (static_cast<size_t>(n) * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
    if (lines_.size() < lines) lines_.resize(lines);
    return reinterpret_cast<T*>(lines_.data());
  }

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::vector<Line> lines_;
};

struct Scratch {
  Buffer<float> gathered, scores, scores_gradient, sums, out, k_gradient, v_gradient;
  Buffer<uint16_t> queries, queries_t, y_gradient, y_gradient_t, rounded;
  Buffer<uint8_t> packed;
  std::vector<VisibleKeys> visible;
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

// One kv head of one segment.
struct Head {
  const AttentionSegment* segment;
  int64_t kv_head, first_block;  // its first among all blocks of keys

  int64_t n_blocks() const { return (segment->kv_len + kKeyBlock - 1) / kKeyBlock; }
  int64_t first_position() const { return segment->kv_len - segment->q_len; }  // of its queries
};

// The rows of queries at positions [begin, end), row i * group + h being head h of query i among those that
// share the kv head.
struct Piece {
  const Head* head;
  int64_t begin, end;

  int64_t n() const { return end - begin; }
  int64_t q_row() const { return head->segment->q_begin + begin - head->first_position(); }
};

// [cols, rows]; two columns at a time, as that reads x half as often.
const uint16_t* Transposed(const uint16_t* x, int64_t rows, int64_t cols, Buffer<uint16_t>& transposed) {
  uint16_t* const y = transposed.Get(rows * cols);
  for (int64_t c = 0; c < cols; c += 2) {
    for (int64_t r = 0; r < rows; ++r) {
      y[c * rows + r] = x[r * cols + c];
      y[(c + 1) * rows + r] = x[r * cols + c + 1];
    }
  }
  return y;
}

// Of q, k and v, where a backward pass fills them.
struct Gradients {
  float *q = nullptr, *k = nullptr, *v = nullptr;
};

class Attender {
 public:
  Attender(const Context& ctx, const Bf16Operands& operands, std::span<const AttentionSegment> segments,
           const AttentionParams& p, const Tensor& y, const Tensor& log_sums, const Gradients& gradients = {})
      : ctx_(ctx),
        kernels_(ctx.kernels),
        operands_(operands),
        y_(y),
        log_sums_(log_sums),
        gradients_(gradients),
        p_(p),
        group_(p.n_heads / p.n_kv_heads),
        step_(std::max<int64_t>(1, kRows / group_)) {
    for (const AttentionSegment& s : segments) {
      for (int64_t h = 0; h < p.n_kv_heads; ++h) {
        heads_.push_back({&s, h, n_blocks_});
        n_blocks_ += heads_.back().n_blocks();
      }
    }
  }

  void Forward() const {
    const Tensor keys = PackedRows(operands_.k, p_.scale), values = PackedColumns(operands_.v);
    std::vector<Piece> pieces;
    for (const Head& head : heads_) {
      // The last queries see the most keys: they go first, so that the threads end together.
      const int64_t first = head.first_position();
      for (int64_t end = head.segment->kv_len; end > first; end -= step_)
        pieces.push_back({&head, std::max(first, end - step_), end});
    }
    Run(pieces, [&](const Piece& piece) { ForwardPiece(piece, keys, values); });
  }

  // kChunk queries with the kChunk keys that stand `distance` before them at a time: no two threads then add
  // to the same gradients, and each gradient is added up in the order of the distances.
  void Backward() const {
    const Packed packed{PackedRows(operands_.k, p_.scale), PackedColumns(operands_.k),
                        PackedRows(operands_.v, 1)};
    std::vector<Piece> pieces;
    for (int64_t distance = 0;; distance += kChunk) {
      pieces.clear();
      for (const Head& head : heads_) {
        for (int64_t begin = std::max(head.first_position(), distance), end; begin < head.segment->kv_len;
             begin = end) {
          end = std::min(head.segment->kv_len, RoundUp(begin + 1, kChunk));
          pieces.push_back({&head, begin, end});
        }
      }
      if (pieces.empty()) return;
      Run(pieces, [&](const Piece& piece) {
        BackwardPiece(piece, (piece.begin - distance) / kChunk * (kChunk / kKeyBlock), packed);
      });
    }
  }

 private:
  // Of the backward pass, block by block as weights.
  struct Packed {
    Tensor keys, key_columns, values;
  };

  template <typename Fn>
  void Run(const std::vector<Piece>& pieces, const Fn& fn) const {
    ctx_.pool.ParallelFor(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) fn(pieces[static_cast<size_t>(i)]);
    });
  }

  // Bytes of a matrix that matmul_bf16 takes as weights.
  int64_t PackedBytes(int64_t n_rows, int64_t k) const {
    return static_cast<int64_t>(thimble::PackedBytes(ctx_, WeightType::kBF16, n_rows, k));
  }
  size_t GroupBytes(int64_t k) const { return kernels_.packed_bytes[static_cast<int>(WeightType::kBF16)](k); }

  // factor * a block's rows of k or v in F32, [kKeyBlock, head_dim], with zeros behind the last.
  const float* BlockRows(const Bf16Rows& x, float factor, const Head& head, int64_t block) const {
    const int64_t d = p_.head_dim, first = block * kKeyBlock;
    const int64_t n = std::min<int64_t>(kKeyBlock, head.segment->kv_len - first);
    float* const rows = ThreadScratch().gathered.Get(kKeyBlock * d);
    for (int64_t i = 0; i < n; ++i) {
      const uint16_t* const row = x.row(head.segment->kv_begin + first + i) + head.kv_head * d;
      kernels_.decode_row[static_cast<int>(WeightType::kBF16)](row, rows + i * d, d);
    }
    for (float* p = rows; p != rows + n * d && factor != 1; ++p) *p *= factor;
    std::fill(rows + n * d, rows + kKeyBlock * d, 0.0f);
    return rows;
  }

  // Row i is what pack(rows, packed) makes of factor * block i among those of all heads.
  template <typename Pack>
  Tensor PackedBlocks(const Bf16Rows& x, float factor, int64_t block_bytes, const Pack& pack) const {
    const Tensor packed = Tensor::Empty(n_blocks_, block_bytes / static_cast<int64_t>(sizeof(float)));
    ctx_.pool.ParallelFor(static_cast<int64_t>(heads_.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const Head& head = heads_[static_cast<size_t>(i)];
        for (int64_t b = 0; b < head.n_blocks(); ++b)
          pack(BlockRows(x, factor, head, b), reinterpret_cast<uint8_t*>(packed.row(head.first_block + b)));
      }
    });
    return packed;
  }

  // Blocks as weights [kKeyBlock, head_dim].
  Tensor PackedRows(const Bf16Rows& x, float factor) const {
    const int64_t d = p_.head_dim, group_rows = kernels_.packed_rows;
    return PackedBlocks(x, factor, PackedBytes(kKeyBlock, d), [&](const float* rows, uint8_t* packed) {
      for (int64_t i = 0; i < kKeyBlock; i += group_rows, packed += GroupBytes(d))
        kernels_.pack_rows_bf16(std::min(group_rows, kKeyBlock - i), d, rows + i * d, d, packed);
    });
  }
  // Transposed blocks, [head_dim, kKeyBlock].
  Tensor PackedColumns(const Bf16Rows& x) const {
    const int64_t d = p_.head_dim;
    return PackedBlocks(x, 1, PackedBytes(d, kKeyBlock), [&](const float* rows, uint8_t* packed) {
      kernels_.pack_columns_bf16(0, kKeyBlock, d, rows, d, packed, GroupBytes(kKeyBlock));
    });
  }

  // The blocks that a piece sees.
  int64_t FirstBlock(const Piece& piece) const {
    return p_.window > 0 ? std::max<int64_t>(0, piece.begin - p_.window + 1) / kKeyBlock : 0;
  }
  static int64_t EndBlock(const Piece& piece) { return (piece.end - 1) / kKeyBlock + 1; }
  static const void* Block(const Tensor& packed, const Piece& piece, int64_t block) {
    return packed.row(piece.head->first_block + block);
  }

  int64_t FirstColumn(const Piece& piece) const { return piece.head->kv_head * group_ * p_.head_dim; }
  // Of the piece's row i * group in a matrix shaped as q.
  int64_t RowOffset(const Piece& piece, int64_t i) const {
    return (piece.q_row() + i) * y_.cols() + FirstColumn(piece);
  }

  // [padded_rows, head_dim]: the piece's rows, each `group` of them made by copy(i, row), then zeros.
  template <typename Copy>
  const uint16_t* Gathered(const Piece& piece, int64_t padded_rows, Buffer<uint16_t>& gathered,
                           const Copy& copy) const {
    const int64_t width = group_ * p_.head_dim, size = padded_rows * p_.head_dim;
    uint16_t* const rows = gathered.Get(size);
    for (int64_t i = 0; i < piece.n(); ++i) copy(i, rows + i * width);
    std::fill(rows + piece.n() * width, rows + size, uint16_t{0});
    return rows;
  }
  const uint16_t* Queries(const Piece& piece, int64_t padded_rows) const {
    return Gathered(piece, padded_rows, ThreadScratch().queries, [&](int64_t i, uint16_t* row) {
      std::copy_n(operands_.q.row(piece.q_row() + i) + FirstColumn(piece), group_ * p_.head_dim, row);
    });
  }

  // What the rows see of a block of keys.
  const VisibleKeys* Visible(const Piece& piece, int64_t block, int64_t padded_rows) const {
    std::vector<VisibleKeys>& visible = ThreadScratch().visible;
    visible.assign(static_cast<size_t>(padded_rows), {0, 0});
    const auto cut = [](int64_t at) { return static_cast<int32_t>(std::clamp<int64_t>(at, 0, kKeyBlock)); };
    for (int64_t i = 0; i < piece.n(); ++i) {
      const int64_t end = piece.begin + i + 1 - block * kKeyBlock;
      const VisibleKeys keys{p_.window > 0 ? cut(end - p_.window) : 0, cut(end)};
      std::fill_n(visible.begin() + i * group_, group_, keys);
    }
    return visible.data();
  }

  void ForwardPiece(const Piece& piece, const Tensor& keys, const Tensor& values) const {
    const int64_t d = p_.head_dim, rows = piece.n() * group_;
    Scratch& scratch = ThreadScratch();
    const uint16_t* const queries = Queries(piece, rows);
    float* const scores = scratch.scores.Get(rows * kKeyBlock);
    uint16_t* const weights = scratch.rounded.Get(rows * kKeyBlock);
    float* const out = scratch.out.Get(rows * d);
    float* const max = scratch.sums.Get(2 * rows);
    float* const sum = max + rows;
    std::fill(max, max + rows, kNothing);
    std::fill(sum, sum + rows, 0.0f);
    const int64_t first = FirstBlock(piece);
    for (int64_t b = first; b < EndBlock(piece); ++b) {
      kernels_.matmul_bf16(rows, kKeyBlock, d, Block(keys, piece, b), queries, d, scores, kKeyBlock, false);
      kernels_.softmax_step(rows, scores, Visible(piece, b, rows), max, sum, out, b > first ? d : 0);
      kernels_.round_activations(scores, weights, rows * kKeyBlock);
      kernels_.matmul_bf16(rows, d, kKeyBlock, Block(values, piece, b), weights, kKeyBlock, out, d,
                           b > first);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = r / group_, h = r % group_;
      const float factor = sum[r] == 0 ? 0.0f : 1 / sum[r];  // 0 where all scores are -infinity
      float* const y = y_.data() + RowOffset(piece, i) + h * d;
      for (int64_t j = 0; j < d; ++j) y[j] = factor * out[r * d + j];
      log_sums_.row(piece.q_row() + i)[piece.head->kv_head * group_ + h] = max[r] + std::log(sum[r]);
    }
  }

  // A piece's queries with the kChunk keys from a block on.
  void BackwardPiece(const Piece& piece, int64_t first_block, const Packed& packed) const {
    const int64_t end_block = std::min(first_block + kChunk / kKeyBlock, EndBlock(piece));
    if (FirstBlock(piece) >= end_block) return;
    const int64_t d = p_.head_dim;
    Scratch& scratch = ThreadScratch();
    float* const dk = scratch.k_gradient.Get(kChunk * d);  // of each block of keys, [head_dim, kKeyBlock]
    float* const dv = scratch.v_gradient.Get(kChunk * d);
    std::fill(dk, dk + kChunk * d, 0.0f);
    std::fill(dv, dv + kChunk * d, 0.0f);
    for (int64_t begin = piece.begin; begin < piece.end; begin += step_) {
      const Piece part{piece.head, begin, std::min(piece.end, begin + step_)};
      BackwardRows(part, first_block, std::min(end_block, EndBlock(part)), packed, dk, dv);
    }
    AddTransposed(dk, p_.scale, piece, first_block, gradients_.k);
    AddTransposed(dv, 1, piece, first_block, gradients_.v);
  }

  void BackwardRows(const Piece& piece, int64_t first_block, int64_t end_block, const Packed& packed,
                    float* dk, float* dv) const {
    const int64_t first = std::max(first_block, FirstBlock(piece));
    if (first >= end_block) return;
    const int64_t d = p_.head_dim, width = group_ * d;
    const int64_t rows = RoundUp(piece.n() * group_, kDepth);  // those behind the last are zeros
    Scratch& scratch = ThreadScratch();
    const uint16_t* const queries = Queries(piece, rows);
    const uint16_t* const dy = Gathered(piece, rows, scratch.y_gradient, [&](int64_t i, uint16_t* row) {
      kernels_.round_activations(y_.grad() + RowOffset(piece, i), row, width);
    });
    const uint16_t* const queries_t = Transposed(queries, rows, d, scratch.queries_t);
    const uint16_t* const dy_t = Transposed(dy, rows, d, scratch.y_gradient_t);
    float* const log_sums = scratch.sums.Get(2 * rows);
    float* const sums = log_sums + rows;  // sum(dP * P), which is dy . y
    LoadSums(piece, rows, log_sums, sums);
    float* const p = scratch.scores.Get(rows * kKeyBlock);
    float* const ds = scratch.scores_gradient.Get(rows * kKeyBlock);
    uint16_t* const rounded = scratch.rounded.Get(rows * kKeyBlock);
    uint8_t* const packed_w = scratch.packed.Get(PackedBytes(kKeyBlock, rows));
    float* const dq = scratch.out.Get(rows * d);
    const auto& k = kernels_;
    // x_t [head_dim, rows] * w [rows, kKeyBlock]
    const auto add_product = [&](const uint16_t* x_t, const float* w, float* to) {
      k.pack_columns_bf16(0, rows, kKeyBlock, w, kKeyBlock, packed_w, GroupBytes(rows));
      k.matmul_bf16(d, kKeyBlock, rows, packed_w, x_t, rows, to, kKeyBlock, true);
    };
    for (int64_t b = first; b < end_block; ++b) {
      const int64_t offset = (b - first_block) * kKeyBlock * d;
      k.matmul_bf16(rows, kKeyBlock, d, Block(packed.keys, piece, b), queries, d, p, kKeyBlock, false);
      k.matmul_bf16(rows, kKeyBlock, d, Block(packed.values, piece, b), dy, d, ds, kKeyBlock, false);
      k.softmax_gradient(rows, p, ds, Visible(piece, b, rows), log_sums, sums);
      add_product(dy_t, p, dv + offset);
      add_product(queries_t, ds, dk + offset);
      k.round_activations(ds, rounded, rows * kKeyBlock);
      k.matmul_bf16(rows, d, kKeyBlock, Block(packed.key_columns, piece, b), rounded, kKeyBlock, dq, d,
                    b > first);
    }
    for (int64_t i = 0; i < piece.n(); ++i)
      k.axpy(p_.scale, dq + i * width, gradients_.q + RowOffset(piece, i), width);
  }

  void LoadSums(const Piece& piece, int64_t rows, float* log_sums, float* sums) const {
    std::fill(log_sums, log_sums + rows, kNothing);
    std::fill(sums, sums + rows, 0.0f);
    for (int64_t i = 0; i < piece.n(); ++i) {
      const int64_t offset = RowOffset(piece, i);
      std::copy_n(log_sums_.row(piece.q_row() + i) + piece.head->kv_head * group_, group_,
                  log_sums + i * group_);
      for (int64_t h = 0; h < group_; ++h) {
        const int64_t at = offset + h * p_.head_dim;
        sums[i * group_ + h] = kernels_.dot(y_.grad() + at, y_.data() + at, p_.head_dim);
      }
    }
  }

  // Adds factor * the gradients of kChunk keys from a block on, each block [head_dim, kKeyBlock].
  void AddTransposed(const float* blocks, float factor, const Piece& piece, int64_t first_block,
                     float* gradient) const {
    const int64_t d = p_.head_dim, cols = p_.n_kv_heads * d, first = first_block * kKeyBlock;
    const int64_t n = std::min(kChunk, piece.head->segment->kv_len - first);
    for (int64_t i = 0; i < n; ++i) {
      const float* const from = blocks + i / kKeyBlock * kKeyBlock * d + i % kKeyBlock;
      float* const to =
          gradient + (piece.head->segment->kv_begin + first + i) * cols + piece.head->kv_head * d;
      for (int64_t c = 0; c < d; ++c) to[c] += factor * from[c * kKeyBlock];
    }
  }

  const Context& ctx_;
  const KernelTable& kernels_;
  const Bf16Operands& operands_;
  const Tensor &y_, &log_sums_;
  const Gradients gradients_;
  const AttentionParams& p_;
  const int64_t group_, step_;  // heads that share a kv head, queries at a time
  std::vector<Head> heads_;
  int64_t n_blocks_ = 0;
};

}  // namespace

bool UsesBf16Attention(const Context& ctx, const AttentionParams& params) {
  return ctx.compute == Compute::kBf16 && ctx.kernels.matmul_bf16 != nullptr && params.head_dim % 2 == 0;
}

Bf16Operands RoundedOperands(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto rounded = [&](const Tensor& x) {
    const Bf16Rows rows = Bf16Rows::Empty(x.rows(), x.cols());
    ctx.pool.ParallelFor(x.rows(), kRows, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ctx.kernels.round_activations(x.row(i), rows.row(i), x.cols());
    });
    return rows;
  };
  return {rounded(q), rounded(k), rounded(v)};
}

void Bf16Attention(const Context& ctx, const Bf16Operands& operands,
                   std::span<const AttentionSegment> segments, const AttentionParams& params, const Tensor& y,
                   const Tensor& log_sums) {
  CHECK(y.cols() == params.n_heads * params.head_dim && params.n_heads % params.n_kv_heads == 0);
  Attender(ctx, operands, segments, params, y, log_sums).Forward();
}

void Bf16AttentionBackward(const Context& ctx, const Bf16Operands& operands, const Tensor& q, const Tensor& k,
                           const Tensor& v, std::span<const AttentionSegment> segments,
                           const AttentionParams& params, const Tensor& y, const Tensor& log_sums) {
  y.grad();  // before the threads start
  const auto gradient = [&](const Tensor& x) {
    const auto [data, fresh] = x.GradTarget();
    if (fresh) {
      ctx.pool.ParallelFor(x.rows(), kRows, [&, data = data](int64_t begin, int64_t end, int) {
        std::fill(data + begin * x.cols(), data + end * x.cols(), 0.0f);
      });
    }
    return data;
  };
  const Gradients gradients{gradient(q), gradient(k), gradient(v)};
  Attender(ctx, operands, segments, params, y, log_sums, gradients).Backward();
}

}  // namespace thimble

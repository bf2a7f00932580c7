#include "ops/linear_bf16.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "ops/decoded_rows.h"

namespace thimble {
namespace {

// A product's columns come in whole tiles of this many, with zeros behind LoRA's.
constexpr int64_t kTileColumns = 32;

int64_t Padded(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Rows of BF16 in a tensor's memory.
struct Rows {
  Tensor memory;
  int64_t stride = 0;

  static Rows Empty(int64_t m, int64_t n) {
    const int64_t stride = Bf16Stride(n);
    return {Tensor::Empty(m, stride / 2), stride};
  }
  uint16_t* row(int64_t i) const { return reinterpret_cast<uint16_t*>(memory.row(i)); }
};

// The columns that a LoRA adds to a product.
int64_t LoraColumns(const LoraTerm& lora) {
  return lora.a ? Padded(lora.a.rows(), kTileColumns) : 0;
}

size_t PackedBf16Bytes(const Context& ctx, int64_t n_rows, int64_t n_columns) {
  return PackedBytes(ctx, WeightType::kBF16, n_rows, n_columns);
}

// h[rows, r] = scale * x packed^T, in F32 and, rounded, behind the n columns of x. `packed` is A or B^T.
void MultiplyLow(const Context& ctx, const LoraTerm& lora, const uint8_t* packed, int64_t n, const Rows& x,
                 float* h, int64_t ldh) {
  const auto& k = ctx.kernels;
  const int64_t m = x.memory.rows(), r = lora.a.rows();
  ctx.pool.ParallelFor(m, ShareOfRows(ctx, m), [&](int64_t begin, int64_t end, int) {
    k.matmul_bf16(end - begin, r, n, packed, x.row(begin), x.stride, h + begin * ldh, ldh, false);
    for (int64_t i = begin; i < end; ++i) {
      float* const low = h + i * ldh;
      for (int64_t j = 0; j < r; ++j) low[j] *= lora.scale;
      std::memset(x.row(i) + n, 0, static_cast<size_t>(LoraColumns(lora)) * sizeof(uint16_t));
      k.round_activations(low, x.row(i) + n, r);
    }
  });
}

// Packs rows [first, first + rows) of [W, B]. All of W's row decoded, then B's and zeros.
void PackRows(const Context& ctx, const Weight& w, const LoraTerm& lora, int64_t first, int64_t rows,
              uint8_t* packed) {
  const int64_t extra = LoraColumns(lora), depth = w.n_in + extra;
  float* const scratch = Scratch(rows * depth);
  const float* source = scratch;
  if (extra == 0) {
    source = DecodedRows(ctx, w, first, rows, scratch);
  } else {
    const int64_t r = lora.b.cols();
    for (int64_t j = 0; j < rows; ++j) {
      float* const to = scratch + j * depth;
      const float* const from = DecodedRows(ctx, w, first + j, 1, to);
      if (from != to) std::copy_n(from, w.n_in, to);
      std::copy_n(lora.b.row(first + j), r, to + w.n_in);
      std::fill(to + w.n_in + r, to + depth, 0.0f);
    }
  }
  ctx.kernels.pack_rows_bf16(rows, depth, source, depth, packed);
}

// All threads pack a stretch of the rows, then each multiplies its share of x's.
void Forward(const Context& ctx, const Weight& w, const LoraTerm& lora, const Rows& x, const Tensor& h,
             const Tensor& y) {
  const auto& k = ctx.kernels;
  const int64_t m = y.rows(), group_rows = k.packed_rows, depth = w.n_in + LoraColumns(lora);
  if (lora.a) {
    const int64_t r = lora.a.rows();
    const size_t group_bytes = PackedBf16Bytes(ctx, 1, w.n_in);
    uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, r, w.n_in));
    for (int64_t j = 0; j < r; j += group_rows)
      k.pack_rows_bf16(std::min(group_rows, r - j), w.n_in, lora.a.row(j), w.n_in,
                       packed + static_cast<size_t>(j / group_rows) * group_bytes);
    MultiplyLow(ctx, lora, packed, w.n_in, x, h.data(), r);
  }
  const int64_t stretch = std::max(kPackedWeights / depth / group_rows, int64_t{1}) * group_rows;
  const size_t group_bytes = PackedBf16Bytes(ctx, 1, depth);
  uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, stretch, depth));
  for (int64_t t = 0; t < w.n_out; t += stretch) {
    const int64_t n = std::min(stretch, w.n_out - t);
    ctx.pool.ParallelFor((n + group_rows - 1) / group_rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t g = begin; g < end; ++g) {
        const int64_t first = g * group_rows;
        PackRows(ctx, w, lora, t + first, std::min(group_rows, n - first),
                 packed + static_cast<size_t>(g) * group_bytes);
      }
    });
    ctx.pool.ParallelFor(m, ShareOfRows(ctx, m), [&](int64_t begin, int64_t end, int) {
      k.matmul_bf16(end - begin, n, depth, packed, x.row(begin), x.stride, y.row(begin) + t, w.n_out, false);
    });
  }
}

// dx (+)= [dy, dh] [W; A], a stretch of W's rows at a time; A's rows follow the last of them.
void BackwardInput(const Context& ctx, const Weight& w, const LoraTerm& lora, const Rows& dy, float* dx,
                   bool add) {
  constexpr int64_t kDecodedRows = 16;
  const auto& k = ctx.kernels;
  const int64_t m = dy.memory.rows(), extra = LoraColumns(lora);
  const int64_t stretch = std::clamp<int64_t>(kPackedWeights / w.n_in / 32 * 32, 32, w.n_out);
  uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, w.n_in, stretch + extra));
  for (int64_t t = 0; t < w.n_out; t += stretch) {
    const int64_t n = std::min(stretch, w.n_out - t);
    const int64_t depth = t + n == w.n_out ? n + extra : n;
    const size_t group_bytes = PackedBf16Bytes(ctx, 1, depth);
    ctx.pool.ParallelFor(n, kDecodedRows, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i += kDecodedRows) {
        const int64_t rows = std::min(kDecodedRows, end - i);
        k.pack_columns_bf16(i, rows, w.n_in, DecodedRows(ctx, w, t + i, rows, Scratch(rows * w.n_in)), w.n_in,
                            packed, group_bytes);
      }
    });
    if (depth > n) {
      float* const rows = Scratch(extra * w.n_in);
      std::copy_n(lora.a.data(), lora.a.size(), rows);
      std::fill(rows + lora.a.size(), rows + extra * w.n_in, 0.0f);
      k.pack_columns_bf16(n, extra, w.n_in, rows, w.n_in, packed, group_bytes);
    }
    ctx.pool.ParallelFor(m, ShareOfRows(ctx, m), [&](int64_t begin, int64_t end, int) {
      k.matmul_bf16(end - begin, w.n_in, depth, packed, dy.row(begin) + t, dy.stride, dx + begin * w.n_in,
                    w.n_in, add || t > 0);
    });
  }
}

// One weight of a recorded call.
struct Part {
  Weight weight;
  LoraTerm lora;
  Tensor h, y;
  int64_t first;  // column of dh
};

// dy rounded, the gradient of B, and dh = scale * dy B, also behind dy's columns.
Rows BackwardLow(const Context& ctx, const Part& part, const Tensor& dh, Tensor* db) {
  const auto& k = ctx.kernels;
  const auto& [w, lora, h, y, first] = part;
  const int64_t m = y.rows(), n_out = w.n_out, block = LoraBlock(m), r = lora.a ? lora.a.rows() : 0;
  const float* const dy = y.grad();
  const Rows rounded = Rows::Empty(m, n_out + LoraColumns(lora));
  if (r > 0) *db = Tensor::Empty((m + block - 1) / block, r * n_out);
  ctx.pool.ParallelFor(m, block, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) k.round_activations(dy + i * n_out, rounded.row(i), n_out);
    if (r > 0) {
      k.gemm_tn(r, n_out, end - begin, h.row(begin), r, dy + begin * n_out, n_out, db->row(begin / block),
                n_out, false);
    }
  });
  if (r > 0) {
    uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, r, n_out));
    k.pack_columns_bf16(0, n_out, r, lora.b.data(), r, packed, PackedBf16Bytes(ctx, 1, n_out));
    MultiplyLow(ctx, lora, packed, n_out, rounded, dh.data() + first, dh.cols());
  }
  return rounded;
}

// The gradients of all A: dh^T x.
Tensor BackwardA(const Context& ctx, const Rows& x, int64_t n_in, const Tensor& dh) {
  const auto& k = ctx.kernels;
  const int64_t m = dh.rows(), block = LoraBlock(m);
  const Tensor da = Tensor::Empty((m + block - 1) / block, dh.cols() * n_in);
  ctx.pool.ParallelFor(m, block, [&](int64_t begin, int64_t end, int) {
    float* const rows = Scratch((end - begin) * n_in);
    for (int64_t i = begin; i < end; ++i)
      k.decode_row[static_cast<int>(WeightType::kBF16)](x.row(i), rows + (i - begin) * n_in, n_in);
    k.gemm_tn(dh.cols(), n_in, end - begin, dh.row(begin), dh.cols(), rows, n_in, da.row(begin / block), n_in,
              false);
  });
  return da;
}

Tensor Decoded(const Context& ctx, const Rows& x, int64_t n) {
  const Tensor y = Tensor::Empty(x.memory.rows(), n);
  for (int64_t i = 0; i < y.rows(); ++i)
    ctx.kernels.decode_row[static_cast<int>(WeightType::kBF16)](x.row(i), y.row(i), n);
  return y;
}

void Backward(const Context& ctx, const std::vector<Part>& parts, const Rows& x, int64_t rank,
              const Tensor& input) {
  const int64_t m = x.memory.rows(), n_in = parts[0].weight.n_in;
  const Tensor dh = rank > 0 ? Tensor::Empty(m, rank) : Tensor();
  std::vector<Tensor> db(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    const Rows dy = BackwardLow(ctx, part, dh, &db[i]);
    if (part.weight.trained || part.weight.trained_bias)
      BackwardWeight(ctx, part.weight, Decoded(ctx, x, n_in), part.y.grad());
    if (!input.requires_grad()) continue;
    const auto [dx, fresh] = input.GradTarget();
    BackwardInput(ctx, part.weight, part.lora, dy, dx, !fresh);
  }
  if (rank == 0) return;
  const Tensor da = BackwardA(ctx, x, n_in, dh);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].lora.a) AddLoraGradients(ctx, parts[i].lora, da, parts[i].first * n_in, db[i]);
  }
}

}  // namespace

void LinearBf16(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& input,
                std::span<const LoraTerm> loras, std::span<Tensor> y) {
  const int64_t m = input.rows(), n_in = input.cols();
  int64_t extra = 0, rank = 0;
  for (const LoraTerm& lora : loras) extra = std::max(extra, LoraColumns(lora));
  const Rows x = Rows::Empty(m, n_in + extra);
  ctx.pool.ParallelFor(m, 8, [&](int64_t begin, int64_t end, int) {
    float* const scratch = Scratch(n_in);
    for (int64_t i = begin; i < end; ++i)
      ctx.kernels.round_activations(input.Row(ctx, i, scratch), x.row(i), n_in);
  });
  const Tensor source = ctx.tape != nullptr ? input.ForGradient(ctx) : Tensor();
  std::vector<Part> recorded;
  for (size_t i = 0; i < weights.size(); ++i) {
    const LoraTerm lora = loras.empty() ? LoraTerm() : loras[i];
    const Tensor h = lora.a ? Tensor::Empty(m, lora.a.rows()) : Tensor();
    Forward(ctx, *weights[i], lora, x, h, y[i]);
    if (!ctx.Records({source, weights[i]->trained, weights[i]->trained_bias, lora.a, lora.b})) continue;
    y[i].set_requires_grad(true);
    recorded.push_back({*weights[i], lora, h, y[i], rank});
    rank += lora.a ? lora.a.rows() : 0;
  }
  if (recorded.empty()) return;
  ctx.tape->Record(
      [ctx, parts = std::move(recorded), x, rank, source] { Backward(ctx, parts, x, rank, source); });
}

}  // namespace thimble

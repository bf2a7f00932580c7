#include "ops/linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "ops/decoded_rows.h"
#include "ops/linear_bf16.h"

namespace thimble {

void BackwardWeight(const Context& ctx, const Weight& w, const Tensor& x, const float* dy) {
  if (w.trained) {
    float* const dw = w.trained.grad();
    const int64_t share = std::max<int64_t>(16, (w.n_out / ctx.pool.n_threads() + 15) / 16 * 16);
    ctx.pool.ParallelFor(w.n_out, share, [&](int64_t begin, int64_t end, int) {
      ctx.kernels.gemm_tn(end - begin, w.n_in, x.rows(), dy + begin, w.n_out, x.data(), w.n_in,
                          dw + begin * w.n_in, w.n_in, true);
    });
  }
  if (!w.trained_bias) return;
  for (int64_t i = 0; i < x.rows(); ++i) {
    ctx.kernels.axpy(1, dy + i * w.n_out, w.trained_bias.grad(), w.n_out);
  }
}

int64_t LoraBlock(int64_t m) {
  constexpr int64_t kLeast = 64, kMostBlocks = 32;
  return RoundUp(std::max(kLeast, (m + kMostBlocks - 1) / kMostBlocks), 32);
}

void AddLoraGradients(const Context& ctx, const LoraTerm& lora, const Tensor& da, int64_t first,
                      const Tensor& db) {
  constexpr int64_t kAtOnce = 1024;
  if (lora.a.requires_grad()) {
    float* const sum = lora.a.grad();
    ctx.pool.ParallelFor(lora.a.size(), kAtOnce, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = 0; i < da.rows(); ++i)
        ctx.kernels.axpy(1, da.row(i) + first + begin, sum + begin, end - begin);
    });
  }
  if (!lora.b.requires_grad()) return;
  float* const sum = lora.b.grad();
  const int64_t n_out = lora.b.rows(), r = lora.b.cols();
  ctx.pool.ParallelFor(n_out, 1 + kAtOnce / r, [&](int64_t begin, int64_t end, int) {
    const int64_t n = end - begin;
    float* const column = Scratch(n);
    for (int64_t k = 0; k < r; ++k) {
      std::fill_n(column, n, 0.0f);
      for (int64_t i = 0; i < db.rows(); ++i) ctx.kernels.axpy(1, db.row(i) + k * n_out + begin, column, n);
      for (int64_t j = 0; j < n; ++j) sum[(begin + j) * r + k] += column[j];
    }
  });
}

namespace {

constexpr int64_t kBackwardTile = 128;  // weight rows decoded at once

// Weight rows decoded at once: as many as stay in the second-level cache, since the activations are read
// again for each tile, but enough tiles for all threads.
int64_t ForwardTile(const Context& ctx, const Weight& w) {
  constexpr int64_t kMost = 128, kLeast = 32, kCachedFloats = 96 << 10;
  const int64_t most =
      std::min({kMost, kCachedFloats / std::max<int64_t>(w.n_in, 1), w.n_out / (2 * ctx.pool.n_threads())});
  return std::max(kLeast, most / kLeast * kLeast);
}

// Which kernel multiplies a weight: those for packed weights, or BF16 and F32 for decoded ones.
enum class Product { kF32, kDecodedBf16, kInt8, kInt16, kBf16 };

Product ProductOf(const Context& ctx, const Weight& w) {
  if (IsDecodedToBf16(ctx, w)) return Product::kDecodedBf16;
  if (ctx.compute != Compute::kInt8 || w.packed == nullptr) return Product::kF32;
  if (ctx.kernels.matmul_q[static_cast<int>(w.type)] != nullptr && w.n_in % 32 == 0) return Product::kInt8;
  if (w.type == WeightType::kF16 && ctx.kernels.matmul_f16 != nullptr && w.n_in % 32 == 0)
    return Product::kInt16;
  if (w.type == WeightType::kBF16 && ctx.kernels.matmul_bf16 != nullptr && w.n_in % 2 == 0)
    return Product::kBf16;
  return Product::kF32;
}

// Rows of `cols` numbers as a product takes them: `convert` fills each of them from what row(i, scratch)
// gives; `ldx` elements lie from one to the next. Kept until the thread's next call.
template <typename Element, typename Row, typename Convert>
const Element* Converted(const Context& ctx, int64_t rows, int64_t cols, const Row& row, int64_t ldx,
                         const Convert& convert) {
  thread_local std::vector<Element> buffer;
  const size_t size = static_cast<size_t>(rows * ldx);
  if (buffer.size() < size) buffer.resize(size);
  Element* const out = buffer.data();
  ctx.pool.ParallelFor(rows, 8, [&](int64_t begin, int64_t end, int) {
    float* const scratch = Scratch(cols);
    for (int64_t i = begin; i < end; ++i) convert(row(i, scratch), out + i * ldx, cols);
  });
  return out;
}

// All weights in one loop over their groups of packed rows. `multiply(w, rows, n_rows, y)` multiplies n_rows
// packed rows.
template <typename Multiply>
void ForwardPacked(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& x,
                   std::span<Tensor> y, const Multiply& multiply) {
  struct Part {
    const uint8_t* rows;
    size_t group_bytes;
    int64_t first_group;
  };
  Part parts[kMaxWeightsAtOnce];
  const int64_t group_rows = ctx.kernels.packed_rows;
  int64_t n_groups = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Weight& w = *weights[i];
    parts[i] = {w.packed->Rows(ctx, w), ctx.kernels.packed_bytes[static_cast<int>(w.type)](w.n_in), n_groups};
    n_groups += (w.n_out + group_rows - 1) / group_rows;
  }
  // Small pieces, so that no thread waits long for another, but not so small that taking one is work.
  const int64_t least = 1 + 8192 / (x.rows() * x.cols() * group_rows);
  const int64_t grain = std::max(least, n_groups / (8 * ctx.pool.n_threads()));
  ctx.pool.ParallelFor(n_groups, grain, [&](int64_t begin, int64_t end, int) {
    for (size_t i = 0; i < weights.size(); ++i) {
      const int64_t first = std::max(begin - parts[i].first_group, int64_t{0}) * group_rows;
      const int64_t last = std::min((end - parts[i].first_group) * group_rows, weights[i]->n_out);
      if (first >= last) continue;
      const uint8_t* rows = parts[i].rows + static_cast<size_t>(first / group_rows) * parts[i].group_bytes;
      multiply(*weights[i], rows, last - first, y[i].data() + first);
    }
  });
}

void ForwardF32(const Context& ctx, const Weight& w, const Tensor& x, const Tensor& y) {
  const int64_t tile_rows = ForwardTile(ctx, w);
  ctx.pool.ParallelFor(w.n_out, tile_rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t += tile_rows) {
      const int64_t n = std::min(tile_rows, end - t);
      const float* tile = DecodedRows(ctx, w, t, n, Scratch(n * w.n_in));
      ctx.kernels.gemm_nt(x.rows(), n, w.n_in, x.data(), w.n_in, tile, w.n_in, y.data() + t, w.n_out, false);
    }
  });
}

void Forward(const Context& ctx, Product product, std::span<const Weight* const> weights,
             const LinearInput& x, std::span<Tensor> y) {
  const auto& k = ctx.kernels;
  const int64_t m = x.rows(), n_in = x.cols();
  const auto row = [&](int64_t i, float* scratch) { return x.Row(ctx, i, scratch); };
  const int64_t ld_blocks = n_in / 32 | 1, ld_bf16 = Bf16Stride(n_in);
  switch (product) {
    case Product::kInt8: {
      const auto* q = Converted<ActivationBlock>(ctx, m, n_in, row, ld_blocks, k.quantize_activations);
      return ForwardPacked(
          ctx, weights, x, y, [&](const Weight& w, const uint8_t* rows, int64_t n_rows, float* out) {
            k.matmul_q[static_cast<int>(w.type)](m, n_rows, n_in, rows, q, ld_blocks, out, w.n_out);
          });
    }
    case Product::kInt16: {
      const auto* q = Converted<ActivationBlock16>(ctx, m, n_in, row, ld_blocks, k.quantize_activations16);
      return ForwardPacked(ctx, weights, x, y,
                           [&](const Weight& w, const uint8_t* rows, int64_t n_rows, float* out) {
                             k.matmul_f16(m, n_rows, n_in, rows, q, ld_blocks, out, w.n_out);
                           });
    }
    case Product::kBf16: {
      const auto* rounded = Converted<uint16_t>(ctx, m, n_in, row, ld_bf16, k.round_activations);
      return ForwardPacked(ctx, weights, x, y,
                           [&](const Weight& w, const uint8_t* rows, int64_t n_rows, float* out) {
                             k.matmul_bf16(m, n_rows, n_in, rows, rounded, ld_bf16, out, w.n_out, false);
                           });
    }
    case Product::kDecodedBf16:  // LinearBf16's
    case Product::kF32: {
      const Tensor whole = x.Whole(ctx);
      for (size_t i = 0; i < weights.size(); ++i) ForwardF32(ctx, *weights[i], whole, y[i]);
    }
  }
}

bool HasIntegerGradients(const Context& ctx, const Weight& w) {
  return ctx.integer_gradients && ProductOf(ctx, w) == Product::kInt8 && w.n_out % 32 == 0;
}

// dx += dy W in integers, as the forward pass: dy rounded to int8 per block of 32, W once more to Q8_0 along
// its columns.
void BackwardInputInt8(const Context& ctx, const Weight& w, const float* dy, int64_t m, float* dx) {
  const auto& k = ctx.kernels;
  const int64_t ld = w.n_out / 32 | 1, group_rows = k.packed_rows;
  const uint8_t* const rows = w.packed->TransposedRows(ctx, w);
  const auto* q = Converted<ActivationBlock>(
      ctx, m, w.n_out, [&](int64_t i, float*) { return dy + i * w.n_out; }, ld, k.quantize_activations);
  const size_t group_bytes = k.packed_bytes[static_cast<int>(WeightType::kQ8_0)](w.n_out);
  const int64_t n_groups = (w.n_in + group_rows - 1) / group_rows;
  const int64_t grain = std::max<int64_t>(1, n_groups / (8 * ctx.pool.n_threads()));
  ctx.pool.ParallelFor(n_groups, grain, [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * group_rows, n = std::min(end * group_rows, w.n_in) - first;
    float* const product = Scratch(m * n);
    k.matmul_q[static_cast<int>(WeightType::kQ8_0)](
        m, n, w.n_out, rows + static_cast<size_t>(begin) * group_bytes, q, ld, product, n);
    for (int64_t i = 0; i < m; ++i) k.axpy(1, product + i * n, dx + i * w.n_in + first, n);
  });
}

// dx += dy W, tile by tile: all threads decode a tile of W, then each multiplies its share of the rows.
void BackwardInput(const Context& ctx, const Weight& w, const float* dy, int64_t m, float* dx) {
  if (HasIntegerGradients(ctx, w)) return BackwardInputInt8(ctx, w, dy, m, dx);
  const auto decode = ctx.kernels.decode_row[static_cast<int>(w.type)];
  thread_local std::vector<float> shared_tile;
  if (w.type != WeightType::kF32) shared_tile.resize(static_cast<size_t>(kBackwardTile * w.n_in));
  float* const decoded = shared_tile.data();
  const int64_t share = std::max<int64_t>(16, (m / ctx.pool.n_threads() + 15) / 16 * 16);
  for (int64_t t = 0; t < w.n_out; t += kBackwardTile) {
    const int64_t n = std::min(kBackwardTile, w.n_out - t);
    const float* tile = reinterpret_cast<const float*>(w.row(t));
    if (w.type != WeightType::kF32) {
      ctx.pool.ParallelFor(n, 16, [&](int64_t begin, int64_t end, int) {
        const size_t row_bytes = RowBytes(w.type, w.n_in);
        const uint8_t* rows = w.row(t + begin);
        if (w.packed != nullptr) {  // the file's pages would stay in memory beside what was packed
          const size_t floats = row_bytes * static_cast<size_t>(end - begin) / sizeof(float) + 1;
          auto* const copy = reinterpret_cast<uint8_t*>(Scratch(static_cast<int64_t>(floats)));
          w.packed->CopyRows(w, t + begin, end - begin, copy);
          rows = copy;
        }
        for (int64_t j = begin; j < end; ++j, rows += row_bytes) decode(rows, decoded + j * w.n_in, w.n_in);
      });
      tile = decoded;
    }
    ctx.pool.ParallelFor(m, share, [&](int64_t begin, int64_t end, int) {
      ctx.kernels.gemm_nn(end - begin, w.n_in, n, dy + begin * w.n_out + t, w.n_out, tile, w.n_in,
                          dx + begin * w.n_in, w.n_in, true);
    });
  }
}

void AddBias(const Weight& w, const Tensor& y) {
  if (w.bias == nullptr) return;
  for (int64_t i = 0; i < y.rows(); ++i) {
    float* row = y.row(i);
    for (int64_t j = 0; j < w.n_out; ++j) row[j] += w.bias[j];
  }
}

void RecordLinear(const Context& ctx, const Weight& weight, const Tensor& x, const Tensor& y) {
  if (!ctx.Records({x, weight.trained, weight.trained_bias})) return;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, weight, x, y] {
    BackwardWeight(ctx, weight, x, y.grad());
    if (x.requires_grad()) BackwardInput(ctx, weight, y.grad(), x.rows(), x.grad());
  });
}

// A stateless random bit per element, so that the backward pass sees the mask of the forward pass.
bool Keeps(uint64_t seed, int64_t index, uint32_t threshold) {
  uint64_t z = seed + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 32) >= threshold;
}

// out (+)= in masked and scaled by 1 / (1 - dropout).
void ApplyDropout(const Context& ctx, const LoraTerm& lora, const float* in, float* out, int64_t n,
                  bool accumulate) {
  const uint32_t threshold = static_cast<uint32_t>(static_cast<double>(lora.dropout) * 4294967296.0);
  const float keep_scale = 1.0f / (1.0f - lora.dropout);
  ctx.pool.ParallelFor(n, 1 << 14, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = Keeps(lora.seed, i, threshold) ? in[i] * keep_scale : 0.0f;
      out[i] = accumulate ? out[i] + value : value;
    }
  });
}

// Splits m > kFewRows rows of gemm_nt so that the last piece, too, is more than the few that are computed in
// a way of their own: results then do not depend on the number of threads.
int64_t ShareOfMany(const Context& ctx, int64_t m) {
  const int64_t pieces = std::clamp<int64_t>(m / (2 * kFewRows), 1, std::min(ctx.pool.n_threads(), 16));
  return (m + pieces - 1) / pieces;
}

}  // namespace

IntegerGradientUse IntegerGradientUseOf(const Context& ctx, const Weight& w, int64_t n_rows) {
  if (!HasIntegerGradients(ctx, w)) return {};
  return {static_cast<int64_t>(PackedBytes(ctx, WeightType::kQ8_0, w.n_in, w.n_out)),
          n_rows * (w.n_out / 32 | 1) * static_cast<int64_t>(sizeof(ActivationBlock))};
}

void Linear(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& input,
            std::span<Tensor> y, std::span<const LoraTerm> loras) {
  const Product first = ProductOf(ctx, *weights[0]);
  const bool at_once = std::all_of(weights.begin(), weights.end(),
                                   [&](const Weight* w) { return ProductOf(ctx, *w) == first; });
  const bool dropped = std::ranges::any_of(loras, [](const LoraTerm& l) { return l.dropout > 0; });
  const bool rows_do = first == Product::kDecodedBf16 ? !dropped : ctx.tape == nullptr && loras.empty();
  const LinearInput x = at_once && rows_do ? input : input.Whole(ctx);
  CHECK(weights.size() <= kMaxWeightsAtOnce && y.size() == weights.size());
  CHECK(loras.empty() || loras.size() == weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    CHECK(x.cols() == weights[i]->n_in);
    CHECK(ctx.kernels.decode_row[static_cast<int>(weights[i]->type)] != nullptr);
    y[i] = Tensor::Empty(x.rows(), weights[i]->n_out);
  }
  // Neighbours with the same kind of product go together.
  for (size_t begin = 0, end; begin < weights.size(); begin = end) {
    const Product product = ProductOf(ctx, *weights[begin]);
    for (end = begin + 1; end < weights.size() && ProductOf(ctx, *weights[end]) == product; ++end) {
    }
    const auto part = [&](auto span) { return span.empty() ? span : span.subspan(begin, end - begin); };
    if (product == Product::kDecodedBf16) {
      LinearBf16(ctx, part(weights), x, dropped ? std::span<const LoraTerm>() : part(loras), part(y));
    } else {
      Forward(ctx, product, part(weights), x, part(y));
    }
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const Weight& w = *weights[i];
    AddBias(w, y[i]);
    const bool bf16 = ProductOf(ctx, w) == Product::kDecodedBf16;
    if (!bf16 && ctx.tape != nullptr) RecordLinear(ctx, w, x.Whole(ctx), y[i]);
    if (!loras.empty() && loras[i].a && (!bf16 || dropped)) AddLora(ctx, x.Whole(ctx), loras[i], y[i]);
  }
}

LinearInput GatedLinear(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& x,
                        Activation activation, std::span<const LoraTerm> loras) {
  CHECK(weights.size() == 2);
  const bool plain = std::ranges::all_of(weights, [&](const Weight* w) {
    return IsDecodedToBf16(ctx, *w) && w->bias == nullptr && !w->trained;
  });
  if (plain && std::ranges::none_of(loras, [](const LoraTerm& l) { return l.dropout > 0; }))
    return GatedLinearBf16(ctx, weights, x, activation, loras);
  Tensor y[2];
  Linear(ctx, weights, x, y, loras);
  return LinearInput::Gated(y[0], y[1], activation);
}

Weight TrainedWeight(std::string name, const Tensor& weight, const Tensor& bias) {
  return {.name = std::move(name),
          .n_out = weight.rows(),
          .n_in = weight.cols(),
          .data = reinterpret_cast<const uint8_t*>(weight.data()),
          .bias = bias ? bias.data() : nullptr,
          .trained = weight,
          .trained_bias = bias};
}

Tensor Linear(const Context& ctx, const Weight& w, const Tensor& x) {
  const Weight* const weights[] = {&w};
  Tensor y;
  Linear(ctx, weights, x, {&y, 1});
  return y;
}

void AddLora(const Context& ctx, const Tensor& x, const LoraTerm& lora, const Tensor& y) {
  const int64_t m = x.rows(), n_in = x.cols(), n_out = y.cols(), r = lora.a.rows();
  CHECK(lora.a.cols() == n_in && lora.b.rows() == n_out && lora.b.cols() == r);
  Tensor input = x;
  if (lora.dropout > 0) {
    input = Tensor::Empty(m, n_in);
    ApplyDropout(ctx, lora, x.data(), input.data(), x.size(), false);
  }
  Tensor h = Tensor::Empty(m, r);  // scale * dropout(x) A^T
  const auto& k = ctx.kernels;
  if (m <= kFewRows) {
    k.gemm_nt(m, r, n_in, input.data(), n_in, lora.a.data(), n_in, h.data(), r, false);
    ScaleInPlace(h, lora.scale);
    k.gemm_nt(m, n_out, r, h.data(), r, lora.b.data(), r, y.data(), n_out, true);
  } else {
    ctx.pool.ParallelFor(m, ShareOfMany(ctx, m), [&](int64_t begin, int64_t end, int) {
      k.gemm_nt(end - begin, r, n_in, input.row(begin), n_in, lora.a.data(), n_in, h.row(begin), r, false);
      for (float* p = h.row(begin); p != h.data() + end * r; ++p) *p *= lora.scale;
      k.gemm_nt(end - begin, n_out, r, h.row(begin), r, lora.b.data(), r, y.row(begin), n_out, true);
    });
  }
  if (!ctx.Records({x, lora.a, lora.b})) return;
  y.set_requires_grad(true);
  if (lora.dropout > 0) input = Tensor();  // drawn again in the backward pass
  ctx.tape->Record([ctx, x, input, lora, h, y] {
    const int64_t m = x.rows(), n_in = x.cols(), n_out = y.cols(), r = lora.a.rows();
    const auto& k = ctx.kernels;
    Tensor dropped = input;
    if (!dropped) {
      dropped = Tensor::Empty(m, n_in);
      ApplyDropout(ctx, lora, x.data(), dropped.data(), x.size(), false);
    }
    const float* dy = y.grad();
    Tensor dx = x.requires_grad() && lora.dropout > 0 ? Tensor::Empty(m, n_in) : Tensor();
    float* const target = dx ? dx.data() : x.requires_grad() ? x.grad() : nullptr;
    const int64_t block = LoraBlock(m);
    Tensor da = Tensor::Empty((m + block - 1) / block, r * n_in);
    Tensor db = Tensor::Empty(da.rows(), r * n_out);  // transposed
    ctx.pool.ParallelFor(m, block, [&](int64_t begin, int64_t end, int) {
      const int64_t n = end - begin;
      const float* const dy_rows = dy + begin * n_out;
      float* const dh = Scratch(n * r);  // scale * dy B
      k.gemm_nn(n, r, n_out, dy_rows, n_out, lora.b.data(), r, dh, r, false);
      for (float* p = dh; p != dh + n * r; ++p) *p *= lora.scale;
      k.gemm_tn(r, n_out, n, h.row(begin), r, dy_rows, n_out, db.row(begin / block), n_out, false);
      k.gemm_tn(r, n_in, n, dh, r, dropped.row(begin), n_in, da.row(begin / block), n_in, false);
      if (target != nullptr)
        k.gemm_nn(n, n_in, r, dh, r, lora.a.data(), n_in, target + begin * n_in, n_in, !dx);
    });
    AddLoraGradients(ctx, lora, da, 0, db);
    if (dx) ApplyDropout(ctx, lora, dx.data(), x.grad(), x.size(), true);
  });
}

}  // namespace thimble

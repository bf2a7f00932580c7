#include "ops/linear_bf16.h"

#include <algorithm>
#include <array>
#include <vector>

#include "ops/decoded_rows.h"

namespace thimble {
namespace {

// A product's columns come in whole tiles of this many, with zeros behind LoRA's.
constexpr int64_t kTileColumns = 32;

// Pieces of at most `most`, as many for each thread, of n things.
int64_t PieceSize(const Context& ctx, int64_t n, int64_t most) {
  const int64_t n_pieces = RoundUp((n + most - 1) / most, ctx.pool.n_threads());
  return std::max<int64_t>(1, (n + n_pieces - 1) / n_pieces);
}

size_t PackedBf16Bytes(const Context& ctx, int64_t n_rows, int64_t n_columns) {
  return PackedBytes(ctx, WeightType::kBF16, n_rows, n_columns);
}

// One weight of a call, with its LoRA or none.
struct Part {
  Weight weight;
  LoraTerm lora;
  Tensor y;
  Bf16Rows rounded;       // in y's place
  int64_t rank = 0;       // of its LoRA
  int64_t first_low = 0;  // the column of h and dh that is its first
};

int64_t Rank(const std::vector<Part>& parts) {
  return parts.empty() ? 0 : parts.back().first_low + parts.back().rank;
}

// Rounds h's row, of n numbers, with zeros up to a whole tile.
void RoundLow(const Context& ctx, const float* h, int64_t n, uint16_t* to) {
  ctx.kernels.round_activations(h, to, n);
  std::fill(to + n, to + RoundUp(n, kTileColumns), uint16_t{0});
}

void Scale(float* x, int64_t n, float by) {
  for (int64_t i = 0; i < n; ++i) x[i] *= by;
}

// All A, one below the other, from column `first` on, `n` columns, with zeros up to `n_rows`.
void StackA(const std::vector<Part>& parts, int64_t first, int64_t n, int64_t n_rows, float* to) {
  for (const Part& part : parts) {
    for (int64_t j = 0; j < part.rank; ++j, to += n) std::copy_n(part.lora.a.row(j) + first, n, to);
  }
  std::fill(to, to + (n_rows - Rank(parts)) * n, 0.0f);
}

// [n, RoundUp(m, kTileColumns)] for a matrix [m, n] that is filled in, with zeros behind its m columns.
Bf16Rows EmptyTransposed(int64_t m, int64_t n) {
  const Bf16Rows rows = Bf16Rows::Empty(n, m);
  for (int64_t j = 0; j < n; ++j) std::fill(rows.row(j) + m, rows.row(j) + rows.stride, uint16_t{0});
  return rows;
}

// Columns [first, first + n) of rows [begin, end) become these rows' columns.
void Transpose(const Bf16Rows& x, int64_t begin, int64_t end, int64_t first, int64_t n, const Bf16Rows& to) {
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = begin; i < end; ++i) to.row(j)[i] = x.row(i)[first + j];
  }
}

// The input, rounded, and behind it h of all parts, which is also returned transposed.
std::pair<Bf16Rows, Bf16Rows> RoundedInput(const Context& ctx, const std::vector<Part>& parts,
                                           const LinearInput& input) {
  constexpr int64_t kRows = 64;
  const auto& k = ctx.kernels;
  const int64_t m = input.rows(), n_in = input.cols(), rank = Rank(parts);
  const Bf16Rows x = Bf16Rows::Empty(m, n_in + RoundUp(rank, kTileColumns));
  const Bf16Rows h_t = rank > 0 ? EmptyTransposed(m, rank) : Bf16Rows();
  uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, rank, n_in));
  if (rank > 0) {
    float* const a = Scratch(rank * n_in);
    StackA(parts, 0, n_in, rank, a);
    const size_t group_bytes = PackedBf16Bytes(ctx, 1, n_in);
    for (int64_t j = 0; j < rank; j += k.packed_rows)
      k.pack_rows_bf16(std::min<int64_t>(k.packed_rows, rank - j), n_in, a + j * n_in, n_in,
                       packed + static_cast<size_t>(j / k.packed_rows) * group_bytes);
  }
  ctx.pool.ParallelFor(m, kRows, [&](int64_t begin, int64_t end, int) {
    float* const scratch = Scratch(std::max(n_in, kRows * rank));
    for (int64_t i = begin; i < end; ++i) k.round_activations(input.Row(ctx, i, scratch), x.row(i), n_in);
    if (rank == 0) return;
    k.matmul_bf16(end - begin, rank, n_in, packed, x.row(begin), x.stride, scratch, rank, false);
    for (int64_t i = begin; i < end; ++i) {
      float* const h = scratch + (i - begin) * rank;
      for (const Part& part : parts) Scale(h + part.first_low, part.rank, part.lora.scale);
      RoundLow(ctx, h, rank, x.row(i) + n_in);
    }
    Transpose(x, begin, end, n_in, rank, h_t);
  });
  return {x, h_t};
}

// Packs rows [first, first + rows) of [W, B], B standing where its part of h does.
void PackRows(const Context& ctx, const Part& part, int64_t first, int64_t rows, int64_t depth,
              uint8_t* packed) {
  const Weight& w = part.weight;
  float* const scratch = Scratch(rows * depth);
  const float* source = scratch;
  if (depth == w.n_in) {
    source = DecodedRows(ctx, w, first, rows, scratch);
  } else {
    for (int64_t j = 0; j < rows; ++j) {
      float* const to = scratch + j * depth;
      const float* const from = DecodedRows(ctx, w, first + j, 1, to);
      if (from != to) std::copy_n(from, w.n_in, to);
      std::fill(to + w.n_in, to + depth, 0.0f);
      std::copy_n(part.lora.b.row(first + j), part.rank, to + w.n_in + part.first_low);
    }
  }
  ctx.kernels.pack_rows_bf16(rows, depth, source, depth, packed);
}

// Columns [first, first + n) of the part's result.
void Multiply(const Context& ctx, const Part& part, int64_t first, int64_t n, int64_t depth,
              const uint8_t* packed, const Bf16Rows& x) {
  constexpr int64_t kMostRows = 64;
  const auto& k = ctx.kernels;
  const int64_t m = x.memory.rows();
  if (!part.rounded)
    return k.matmul_bf16(m, n, depth, packed, x.row(0), x.stride, part.y.data() + first, part.weight.n_out,
                         false);
  float* const scratch = Scratch(kMostRows * n);
  for (int64_t i = 0; i < m; i += kMostRows) {
    const int64_t rows = std::min(kMostRows, m - i);
    k.matmul_bf16(rows, n, depth, packed, x.row(i), x.stride, scratch, n, false);
    for (int64_t j = 0; j < rows; ++j)
      k.round_activations(scratch + j * n, part.rounded.row(i + j) + first, n);
  }
}

// Each thread packs rows of the weights and multiplies all of x with them.
void Forward(const Context& ctx, const std::vector<Part>& parts, const Bf16Rows& x) {
  const auto& k = ctx.kernels;
  const int64_t n_in = parts[0].weight.n_in, group_rows = k.packed_rows;
  const int64_t most_depth = n_in + RoundUp(Rank(parts), kTileColumns);
  int64_t n_groups = 0;
  for (const Part& part : parts) n_groups += (part.weight.n_out + group_rows - 1) / group_rows;
  const int64_t most = std::max<int64_t>(1, kPackedWeights / most_depth / group_rows);
  const int64_t piece = PieceSize(ctx, n_groups, most);
  ctx.pool.ParallelFor(n_groups, piece, [&](int64_t begin, int64_t end, int) {
    uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, piece * group_rows, most_depth));
    for (const Part& part : parts) {
      const int64_t n_out = part.weight.n_out, depth = part.rank > 0 ? most_depth : n_in;
      const int64_t first = std::max<int64_t>(begin, 0) * group_rows,
                    last = std::min(end * group_rows, n_out);
      const size_t group_bytes = PackedBf16Bytes(ctx, 1, depth);
      for (int64_t j = first; j < last; j += group_rows)
        PackRows(ctx, part, j, std::min(group_rows, last - j), depth,
                 packed + static_cast<size_t>((j - first) / group_rows) * group_bytes);
      if (first < last) Multiply(ctx, part, first, last - first, depth, packed, x);
      const int64_t n = (n_out + group_rows - 1) / group_rows;
      begin -= n, end -= n;  // in groups of the next part
    }
  });
}

// A recorded call: what its backward pass reads.
struct Call {
  std::vector<Part> parts;
  LinearInput x;
  Bf16Rows h_t;  // [rank, rows]
  Tensor gated;  // of GatedLinear: the result, whose gradient is known
  Activation activation = Activation::kSilu;
};

// Rows [begin, end) of the gradients of the outputs, one matrix for each part: where they stand, or made of
// the gradient of what was made of them. Kept in Scratch.
std::array<const float*, kMaxWeightsAtOnce> OutputGradients(const Context& ctx, const Call& call,
                                                            int64_t begin, int64_t end) {
  std::array<const float*, kMaxWeightsAtOnce> dy{};
  if (!call.gated) {
    for (size_t i = 0; i < call.parts.size(); ++i)
      dy[i] = call.parts[i].y.grad() + begin * call.parts[i].weight.n_out;
    return dy;
  }
  const auto& k = ctx.kernels;
  const auto backward =
      call.activation == Activation::kSilu ? k.silu_mul_bf16_backward : k.gelu_mul_bf16_backward;
  const int64_t n = call.gated.cols(), size = (end - begin) * n;
  float* const dgate = Scratch(2 * size);
  float* const dup = dgate + size;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t at = (i - begin) * n;
    backward(call.parts[0].rounded.row(i), call.parts[1].rounded.row(i), call.gated.grad() + i * n,
             dgate + at, dup + at, n);
  }
  return {dgate, dup};
}

// Rows [begin, end): where they stand, or made in `scratch`.
const float* InputRows(const Context& ctx, const LinearInput& x, int64_t begin, int64_t end, float* scratch) {
  const float* const first = x.Row(ctx, begin, scratch);
  for (int64_t i = begin + 1; first == scratch && i < end; ++i)
    x.Row(ctx, i, scratch + (i - begin) * x.cols());
  return first;
}

// The gradients of the outputs, rounded, side by side, and behind them dh of all parts.
struct Gradients {
  Bf16Rows rows;
  int64_t n;  // columns
};

// y [n_rows, n] = w_t x, of w_t's columns [first, first + rows) and x [rows, n], rounded.
void MultiplyTransposed(const Context& ctx, const Bf16Rows& w_t, int64_t first_row, int64_t n_rows,
                        int64_t first, int64_t rows, const float* x, int64_t n, float* y) {
  const auto& k = ctx.kernels;
  const int64_t depth = RoundUp(rows, kTileColumns), even = rows / 2 * 2;
  const size_t group_bytes = PackedBf16Bytes(ctx, 1, depth);
  uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, n, depth));
  k.pack_columns_bf16(0, even, n, x, n, packed, group_bytes);
  if (even < depth) {
    std::vector<float> rest(static_cast<size_t>((depth - even) * n));
    std::copy(x + even * n, x + rows * n, rest.begin());
    k.pack_columns_bf16(even, depth - even, n, rest.data(), n, packed, group_bytes);
  }
  k.matmul_bf16(n_rows, n, depth, packed, w_t.row(first_row) + first, w_t.stride, y, n, false);
}

// The gradients of all A and B, too.
Gradients RoundedGradients(const Context& ctx, const Call& call) {
  const auto& k = ctx.kernels;
  const std::vector<Part>& parts = call.parts;
  const int64_t m = call.x.rows(), n_in = parts[0].weight.n_in, rank = Rank(parts);
  const int64_t block = LoraBlock(m), n_blocks = (m + block - 1) / block;
  int64_t n_out = 0;
  size_t packed_bytes = 0;
  for (const Part& part : parts) {
    n_out += part.weight.n_out;
    packed_bytes += PackedBf16Bytes(ctx, part.rank, part.weight.n_out);
    (call.gated ? call.gated : part.y).grad();  // before the threads start
  }
  const int64_t n = n_out + RoundUp(rank, kTileColumns);
  const Gradients dy{Bf16Rows::Empty(m, n), n};
  const Tensor packed_b = Tensor::Empty(1, static_cast<int64_t>(packed_bytes / sizeof(float)));
  std::vector<Tensor> db(parts.size());
  auto* to = reinterpret_cast<uint8_t*>(packed_b.data());
  for (size_t i = 0; i < parts.size(); ++i) {
    const Weight& w = parts[i].weight;
    const int64_t r = parts[i].rank;
    if (r == 0) continue;
    db[i] = Tensor::Empty(n_blocks, r * w.n_out);
    k.pack_columns_bf16(0, w.n_out, r, parts[i].lora.b.data(), r, to, PackedBf16Bytes(ctx, 1, w.n_out));
    to += PackedBf16Bytes(ctx, r, w.n_out);
  }
  const Tensor dh = Tensor::Empty(m, rank), da = Tensor::Empty(n_blocks, rank * n_in);
  const Bf16Rows dh_t = EmptyTransposed(m, rank);
  ctx.pool.ParallelFor(m, block, [&](int64_t begin, int64_t end, int) {
    const int64_t rows = end - begin;
    const auto outputs = OutputGradients(ctx, call, begin, end);
    const auto* packed = reinterpret_cast<const uint8_t*>(packed_b.data());
    int64_t column = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const int64_t cols = parts[i].weight.n_out, r = parts[i].rank, first = parts[i].first_low;
      for (int64_t j = 0; j < rows; ++j)
        k.round_activations(outputs[i] + j * cols, dy.rows.row(begin + j) + column, cols);
      if (r > 0) {
        MultiplyTransposed(ctx, call.h_t, first, r, begin, rows, outputs[i], cols, db[i].row(begin / block));
        k.matmul_bf16(rows, r, cols, packed, dy.rows.row(begin) + column, dy.rows.stride,
                      dh.row(begin) + first, rank, false);
        for (int64_t j = begin; j < end; ++j) Scale(dh.row(j) + first, r, parts[i].lora.scale);
        packed += PackedBf16Bytes(ctx, r, cols);
      }
      column += cols;
    }
    if (rank == 0) return;
    for (int64_t i = begin; i < end; ++i) RoundLow(ctx, dh.row(i), rank, dy.rows.row(i) + column);
    Transpose(dy.rows, begin, end, column, rank, dh_t);
    const float* const x = InputRows(ctx, call.x, begin, end, Scratch(rows * n_in));
    MultiplyTransposed(ctx, dh_t, 0, rank, begin, rows, x, n_in, da.row(begin / block));
  });
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].rank > 0) AddLoraGradients(ctx, parts[i].lora, da, parts[i].first_low * n_in, db[i]);
  }
  return dy;
}

// dx (+)= [dy, dh] [W; A], W being all weights one below the other. Each thread packs columns of it, a
// stretch of the rows at a time, and multiplies all of dy with them.
void BackwardInput(const Context& ctx, const std::vector<Part>& parts, const Gradients& dy, float* dx,
                   bool add) {
  constexpr int64_t kDecodedRows = 16, kMostRows = 1600;
  const auto& k = ctx.kernels;
  const int64_t m = dy.rows.memory.rows(), n_in = parts[0].weight.n_in;
  int64_t unit = kTileColumns;  // columns that can be decoded apart
  for (const Part& part : parts) unit = std::max<int64_t>(unit, Info(part.weight.type).block_size);
  const int64_t n_units = (n_in + unit - 1) / unit;
  // Sums are the same for any number of threads, since the stretches are.
  const int64_t n_stretches = (dy.n + kMostRows - 1) / kMostRows;
  const int64_t stretch = RoundUp((dy.n + n_stretches - 1) / n_stretches, kTileColumns);
  const int64_t piece = PieceSize(ctx, n_units, std::max<int64_t>(1, kPackedWeights / stretch / unit));
  ctx.pool.ParallelFor(n_units, piece, [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * unit, columns = std::min(end * unit, n_in) - first;
    uint8_t* const packed = PackedScratch(PackedBf16Bytes(ctx, columns, stretch));
    for (int64_t t = 0; t < dy.n; t += stretch) {
      const int64_t n = std::min(stretch, dy.n - t);
      const size_t group_bytes = PackedBf16Bytes(ctx, 1, n);
      int64_t row = -t;  // of the part's first row within the stretch
      for (const Part& part : parts) {
        const Weight& w = part.weight;
        const size_t offset = RowBytes(w.type, first);
        const auto decode = k.decode_row[static_cast<int>(w.type)];
        for (int64_t i = std::max(row, int64_t{0}); i < std::min(n, row + w.n_out); i += kDecodedRows) {
          const int64_t rows = std::min({kDecodedRows, n - i, row + w.n_out - i});
          float* const decoded = Scratch(rows * columns);
          for (int64_t j = 0; j < rows; ++j)
            decode(w.row(i + j - row) + offset, decoded + j * columns, columns);
          k.pack_columns_bf16(i, rows, columns, decoded, columns, packed, group_bytes);
        }
        row += w.n_out;
      }
      if (row < n) {  // dy.n - row is that of A with its zeros
        float* const a = Scratch((dy.n - t - row) * columns);
        StackA(parts, first, columns, dy.n - t - row, a);
        const int64_t skipped = std::max(-row, int64_t{0});
        k.pack_columns_bf16(row + skipped, n - row - skipped, columns, a + skipped * columns, columns, packed,
                            group_bytes);
      }
      k.matmul_bf16(m, columns, n, packed, dy.rows.row(0) + t, dy.rows.stride, dx + first, n_in,
                    add || t > 0);
    }
  });
}

void Backward(const Context& ctx, const Call& call, const Tensor& input) {
  const Gradients dy = RoundedGradients(ctx, call);
  for (const Part& part : call.parts) {
    if (!part.weight.trained && !part.weight.trained_bias) continue;
    const Tensor x = Tensor::Empty(call.x.rows(), call.x.cols());
    const float* const rows = InputRows(ctx, call.x, 0, x.rows(), x.data());
    if (rows != x.data()) std::copy_n(rows, x.size(), x.data());
    BackwardWeight(ctx, part.weight, x, part.y.grad());
  }
  if (!input.requires_grad()) return;
  const auto [dx, fresh] = input.GradTarget();
  BackwardInput(ctx, call.parts, dy, dx, !fresh);
}

std::vector<Part> MakeParts(std::span<const Weight* const> weights, std::span<const LoraTerm> loras) {
  std::vector<Part> parts;
  for (size_t i = 0; i < weights.size(); ++i) {
    const LoraTerm lora = loras.empty() ? LoraTerm() : loras[i];
    parts.push_back(
        {.weight = *weights[i], .lora = lora, .rank = lora.a ? lora.a.rows() : 0, .first_low = Rank(parts)});
  }
  return parts;
}

// Computes the results and, where the part's gradients are wanted, or those of its input, records the
// backward pass; result(part) is what has the gradient.
template <typename Result>
void Run(const Context& ctx, Call call, const Result& result) {
  {
    const auto [x, h_t] = RoundedInput(ctx, call.parts, call.x);
    Forward(ctx, call.parts, x);
    call.h_t = h_t;
  }
  if (ctx.tape == nullptr) return;
  const Tensor source = call.x.ForGradient(ctx);
  bool any = false;
  for (const Part& part : call.parts) {
    const Weight& w = part.weight;
    if (!ctx.Records({source, w.trained, w.trained_bias, part.lora.a, part.lora.b})) continue;
    result(part).set_requires_grad(true);
    any = true;
  }
  if (any) ctx.tape->Record([ctx, call = std::move(call), source] { Backward(ctx, call, source); });
}

}  // namespace

void LinearBf16(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& input,
                std::span<const LoraTerm> loras, std::span<Tensor> y) {
  Call call{.parts = MakeParts(weights, loras), .x = input};
  for (size_t i = 0; i < weights.size(); ++i) call.parts[i].y = y[i];
  Run(ctx, std::move(call), [](const Part& part) { return part.y; });
}

LinearInput GatedLinearBf16(const Context& ctx, std::span<const Weight* const> weights,
                            const LinearInput& input, Activation activation,
                            std::span<const LoraTerm> loras) {
  const int64_t m = input.rows(), n = weights[0]->n_out;
  Call call{.parts = MakeParts(weights, loras),
            .x = input,
            .gated = Tensor::WithoutData(m, n),
            .activation = activation};
  for (Part& part : call.parts) part.rounded = Bf16Rows::Empty(m, n);
  const LinearInput result =
      LinearInput::Gated(call.parts[0].rounded, call.parts[1].rounded, activation, call.gated);
  const Tensor gated = call.gated;
  Run(ctx, std::move(call), [&](const Part&) { return gated; });
  return result;
}

}  // namespace thimble

#include "ops/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "ops/decoded_rows.h"

namespace thimble {
namespace {

// logits -> softmax - onehot, scaled; returns the loss.
double LossAndGradient(const KernelTable& k, float* logits, int64_t n, int32_t label, float scale) {
  const float target = logits[label];
  const double loss = static_cast<double>(k.softmax(logits, n)) - target;
  logits[label] -= 1;
  for (int64_t j = 0; j < n; ++j) logits[j] *= scale;
  return loss;
}

// The same where p, at first the teacher's logits, are the probabilities to be met: logits -> softmax - p.
double DivergenceAndGradient(const KernelTable& k, float* logits, float* p, int64_t n, float scale) {
  thread_local std::vector<float> differences;
  differences.resize(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) differences[static_cast<size_t>(j)] = p[j] - logits[j];
  double loss = static_cast<double>(k.softmax(logits, n)) - static_cast<double>(k.softmax(p, n));
  loss += static_cast<double>(k.dot(p, differences.data(), n));
  for (int64_t j = 0; j < n; ++j) logits[j] = (logits[j] - p[j]) * scale;
  return loss;
}

std::vector<int64_t> LabelledRows(const Weight& output, const Tensor& x, std::span<const int32_t> labels) {
  CHECK(static_cast<int64_t>(labels.size()) == x.rows());
  std::vector<int64_t> rows;
  for (size_t i = 0; i < labels.size(); ++i) {
    CHECK(labels[i] < output.n_out);
    if (labels[i] >= 0) rows.push_back(static_cast<int64_t>(i));
  }
  return rows;
}

Tensor GatherRows(const Tensor& x, std::span<const int64_t> rows) {
  Tensor y = Tensor::Empty(static_cast<int64_t>(rows.size()), x.cols());
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(y.row(static_cast<int64_t>(i)), x.row(rows[i]),
                static_cast<size_t>(x.cols()) * sizeof(float));
  }
  return y;
}

// The mean over labelled rows of row_loss(i, row, logits, scale), which turns the i-th logits of a chunk, of
// the row given, into their gradient; begin_chunk is called with each chunk's rows.
template <typename BeginChunk, typename RowLoss>
LossResult ChunkedLoss(const Context& ctx, const Weight& output, const Tensor& x,
                       std::span<const int32_t> labels, float gradient_scale, const BeginChunk& begin_chunk,
                       const RowLoss& row_loss) {
  const std::vector<int64_t> rows = LabelledRows(output, x, labels);
  LossResult result{.n_labels = static_cast<int64_t>(rows.size())};
  if (rows.empty()) return result;
  const bool records = ctx.Records({x, output.trained});
  const float scale = gradient_scale / static_cast<float>(rows.size());
  double total = 0;
  for (size_t begin = 0; begin < rows.size(); begin += kLossRows) {
    const auto chunk = std::span(rows).subspan(begin, std::min<size_t>(kLossRows, rows.size() - begin));
    begin_chunk(chunk);
    Tape tape;
    Context local = ctx;
    local.tape = records ? &tape : nullptr;
    Tensor input = GatherRows(x, chunk);
    input.set_requires_grad(x.requires_grad());
    Tensor logits = Linear(local, output, input);
    std::vector<double> losses(chunk.size());
    ctx.pool.ParallelFor(static_cast<int64_t>(chunk.size()), 1, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) losses[i] = row_loss(i, chunk[i], logits.row(i), scale);
    });
    for (double loss : losses) total += loss;
    if (!records) continue;
    logits.SwapDataAndGrad();
    tape.Backward();
    for (size_t i = 0; x.requires_grad() && i < chunk.size(); ++i) {
      ctx.kernels.axpy(1, input.grad() + static_cast<int64_t>(i) * x.cols(), x.grad() + chunk[i] * x.cols(),
                       x.cols());
    }
  }
  result.mean_loss = total / static_cast<double>(rows.size());
  return result;
}

bool SweepsVocabulary(const Context& ctx, const Weight& output) {
  return IsDecodedToBf16(ctx, output) && !output.trained && output.bias == nullptr;
}

// Rows of x that a thread multiplies with a stretch at a time.
int64_t ShareOfRows(const Context& ctx, int64_t m) {
  constexpr int64_t kMost = 128, kTile = 32;
  const int64_t n_threads = ctx.pool.n_threads();
  return std::min(kMost, RoundUp((m + n_threads - 1) / n_threads, kTile));
}

// Output rows that are packed at a time, both ways.
int64_t StretchRows(const Weight& output) {
  constexpr int64_t kTile = 32;
  return std::max(kPackedWeights / output.n_in / kTile, int64_t{1}) * kTile;
}

// All threads pack output rows [first, first + n) in BF16 as a product's rows and, if `columns` is not null,
// as the columns of its gradient.
void PackStretch(const Context& ctx, const Weight& output, int64_t first, int64_t n, uint8_t* rows,
                 uint8_t* columns) {
  const auto& k = ctx.kernels;
  const auto packed_bytes = k.packed_bytes[static_cast<int>(WeightType::kBF16)];
  const int64_t group_rows = k.packed_rows, n_in = output.n_in;
  ctx.pool.ParallelFor((n + group_rows - 1) / group_rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t i = g * group_rows, n_rows = std::min(group_rows, n - i);
      const float* const decoded = DecodedRows(ctx, output, first + i, n_rows, Scratch(n_rows * n_in));
      k.pack_rows_bf16(n_rows, n_in, decoded, n_in, rows + static_cast<size_t>(g) * packed_bytes(n_in));
      if (columns != nullptr) k.pack_columns_bf16(i, n_rows, n_in, decoded, n_in, columns, packed_bytes(n));
    }
  });
}

// The softmax of a row's logits, of which a stretch is seen at a time.
struct RunningSoftmax {
  double log_sum = -INFINITY;  // of the exponentials of the logits seen so far
  double target = 0;           // the label's logit
  float kept = 0, added = 0;   // what is in earlier stretches and in this one, of the probability so far

  // logits -> their softmax but for the label (counted from here), which gets 0.
  void Add(const KernelTable& k, float* logits, int64_t n, int64_t label) {
    const bool has_label = label >= 0 && label < n;
    if (has_label) target = static_cast<double>(logits[label]);
    const auto stretch = static_cast<double>(k.softmax(logits, n));
    const double both = std::max(log_sum, stretch) + std::log1p(std::exp(-std::fabs(log_sum - stretch)));
    kept = static_cast<float>(std::exp(log_sum - both));
    added = static_cast<float>(std::exp(stretch - both));
    log_sum = both;
    if (has_label) logits[label] = 0;
  }
};

// The loss in one sweep through the vocabulary, of which logits exist a stretch at a time (as in Cut
// Cross-Entropy, Wijmans et al. 2024), and the gradient in the same sweep, as the output of flash attention
// (Dao et al. 2022): d loss / dx = sum over j of p[j] W[j] - W[label]. The label's terms are left to the end,
// where p[label] - 1, which may be small, needs no rounding to BF16.
LossResult SweptCrossEntropy(const Context& ctx, const Weight& output, const Tensor& x,
                             std::span<const int32_t> labels, float gradient_scale) {
  const auto& k = ctx.kernels;
  const std::vector<int64_t> rows = LabelledRows(output, x, labels);
  const int64_t m = std::ssize(rows), n_in = output.n_in;
  LossResult result{.n_labels = m};
  if (rows.empty()) return result;
  const bool records = ctx.Records({x});
  const int64_t share = ShareOfRows(ctx, m);
  const Bf16Rows rounded = Bf16Rows::Empty(m, n_in);
  ctx.pool.ParallelFor(m, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) k.round_activations(x.row(rows[i]), rounded.row(i), n_in);
  });
  const int64_t stretch = StretchRows(output), ld_p = Bf16Stride(stretch);
  const size_t bytes_of_rows = PackedBytes(ctx, WeightType::kBF16, stretch, n_in),
               bytes_of_columns = PackedBytes(ctx, WeightType::kBF16, n_in, stretch);
  uint8_t* const packed_rows = PackedScratch(bytes_of_rows + bytes_of_columns);
  uint8_t* const packed_columns = records ? packed_rows + bytes_of_rows : nullptr;
  std::vector<uint16_t> p(static_cast<size_t>(records ? ctx.pool.n_threads() * share * ld_p : 0));
  std::vector<RunningSoftmax> softmax(rows.size());
  const Tensor sums = records ? Tensor::Zeros(m, n_in) : Tensor();  // of p[j] W[j] so far
  for (int64_t t = 0; t < output.n_out; t += stretch) {
    const int64_t n = std::min(stretch, output.n_out - t);
    PackStretch(ctx, output, t, n, packed_rows, packed_columns);
    ctx.pool.ParallelFor(m, share, [&](int64_t begin, int64_t end, int thread) {
      const int64_t n_rows = end - begin;
      float* const logits = Scratch(n_rows * (n + n_in));
      k.matmul_bf16(n_rows, n, n_in, packed_rows, rounded.row(begin), rounded.stride, logits, n, false);
      for (int64_t i = 0; i < n_rows; ++i)
        softmax[begin + i].Add(k, logits + i * n, n, labels[rows[begin + i]] - t);
      if (!records) return;
      uint16_t* const own_p = p.data() + thread * share * ld_p;
      for (int64_t i = 0; i < n_rows; ++i) k.round_activations(logits + i * n, own_p + i * ld_p, n);
      float* const product = logits + n_rows * n;
      k.matmul_bf16(n_rows, n_in, n, packed_columns, own_p, ld_p, product, n_in, false);
      for (int64_t i = 0; i < n_rows; ++i) {
        float* const sum = sums.row(begin + i);
        const float kept = softmax[begin + i].kept, added = softmax[begin + i].added;
        for (int64_t j = 0; j < n_in; ++j) sum[j] = sum[j] * kept + product[i * n_in + j] * added;
      }
    });
  }
  for (const RunningSoftmax& s : softmax) result.mean_loss += (s.log_sum - s.target) / static_cast<double>(m);
  if (!records) return result;
  const float scale = gradient_scale / static_cast<float>(m);
  float* const dx = x.grad();
  ctx.pool.ParallelFor(m, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const row = DecodedRows(ctx, output, labels[rows[i]], 1, Scratch(n_in));
      const auto slope = static_cast<float>(std::expm1(softmax[i].target - softmax[i].log_sum));
      k.axpy(scale, sums.row(i), dx + rows[i] * n_in, n_in);
      k.axpy(scale * slope, row, dx + rows[i] * n_in, n_in);
    }
  });
  return result;
}

}  // namespace

int64_t CrossEntropyBytes(const Context& ctx, const Weight& output, int64_t n_rows) {
  constexpr int64_t kF32 = sizeof(float), kBf16 = sizeof(uint16_t);
  if (!SweepsVocabulary(ctx, output)) return 2 * std::min(n_rows, kLossRows) * output.n_out * kF32;
  const int64_t stretch = StretchRows(output), at_once = ctx.pool.n_threads() * ShareOfRows(ctx, n_rows);
  return n_rows * output.n_in * (kBf16 + kF32) + 2 * stretch * output.n_in * kBf16 +
         at_once * (stretch * (kF32 + kBf16) + output.n_in * kF32);
}

LossResult LinearCrossEntropy(const Context& ctx, const Weight& output, const Tensor& x,
                              std::span<const int32_t> labels, float gradient_scale) {
  if (SweepsVocabulary(ctx, output)) return SweptCrossEntropy(ctx, output, x, labels, gradient_scale);
  return ChunkedLoss(
      ctx, output, x, labels, gradient_scale, [](std::span<const int64_t>) {},
      [&](int64_t, int64_t row, float* logits, float scale) {
        return LossAndGradient(ctx.kernels, logits, output.n_out, labels[row], scale);
      });
}

LossResult LinearKlDivergence(const Context& ctx, const Weight& output, const Tensor& x,
                              const Weight& teacher_output, const Tensor& teacher_x,
                              std::span<const int32_t> labels, float gradient_scale) {
  CHECK(teacher_output.n_out == output.n_out && teacher_x.rows() == x.rows());
  Context plain = ctx;
  plain.tape = nullptr;
  Tensor teacher;
  return ChunkedLoss(
      ctx, output, x, labels, gradient_scale,
      [&](std::span<const int64_t> rows) {
        teacher = Linear(plain, teacher_output, GatherRows(teacher_x, rows));
      },
      [&](int64_t i, int64_t, float* logits, float scale) {
        return DivergenceAndGradient(ctx.kernels, logits, teacher.row(i), output.n_out, scale);
      });
}

LossResult HiddenStateError(const Context& ctx, const Tensor& x, const Tensor& teacher_x,
                            std::span<const int32_t> labels, float gradient_scale) {
  CHECK(x.rows() == teacher_x.rows() && x.cols() == teacher_x.cols());
  CHECK(static_cast<int64_t>(labels.size()) == x.rows());
  LossResult result;
  std::vector<float> differences(static_cast<size_t>(x.size()));
  std::vector<double> squares(labels.size());
  ctx.pool.ParallelFor(x.rows(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      if (labels[static_cast<size_t>(i)] < 0) continue;
      const float* taught = teacher_x.row(i);
      float* difference = differences.data() + i * x.cols();
      for (int64_t j = 0; j < x.cols(); ++j) difference[j] = x.row(i)[j] - taught[j];
      squares[static_cast<size_t>(i)] = static_cast<double>(ctx.kernels.dot(taught, taught, x.cols()));
    }
  });
  for (const double square : squares) result.n_labels += square > 0 ? 1 : 0;
  for (int64_t i = 0; i < x.rows(); ++i) {
    const double square = squares[static_cast<size_t>(i)];
    if (square == 0) continue;
    const float* difference = differences.data() + i * x.cols();
    const double share = 1 / (square * static_cast<double>(result.n_labels));
    result.mean_loss += share * static_cast<double>(ctx.kernels.dot(difference, difference, x.cols()));
    if (!ctx.Records({x})) continue;
    ctx.kernels.axpy(2 * gradient_scale * static_cast<float>(share), difference, x.grad() + i * x.cols(),
                     x.cols());
  }
  return result;
}

}  // namespace thimble

#include "ops/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

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
  CHECK(static_cast<int64_t>(labels.size()) == x.rows());
  std::vector<int64_t> rows;
  for (size_t i = 0; i < labels.size(); ++i) {
    CHECK(labels[i] < output.n_out);
    if (labels[i] >= 0) rows.push_back(static_cast<int64_t>(i));
  }
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

}  // namespace

LossResult LinearCrossEntropy(const Context& ctx, const Weight& output, const Tensor& x,
                              std::span<const int32_t> labels, float gradient_scale) {
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

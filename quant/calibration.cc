#include "quant/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/check.h"
#include "base/clock.h"

namespace thimble {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // logits of a 262,144-token vocabulary for 64 rows are 67 MB

double Square(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

// Adds sum over tokens of weights[t] * x_t^T x_t.
void AddWeighted(const Context& ctx, const Tensor& x, const std::vector<double>& weights, Hessian& hessian) {
  Tensor scaled = Tensor::Empty(x.rows(), x.cols());
  ctx.pool.ParallelFor(x.rows(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float root = static_cast<float>(std::sqrt(weights[static_cast<size_t>(t)]));
      for (int64_t i = 0; i < x.cols(); ++i) scaled.row(t)[i] = root * x.row(t)[i];
    }
  });
  hessian.Add(ctx.pool, ctx.kernels, scaled.data(), x.rows());
}

class Collector : public LayerObserver {
 public:
  Collector(const Context& ctx, const Model& model, const CalibrationPass& pass)
      : ctx_(ctx), model_(model), pass_(pass) {
    for (const Layer& layer : model.layers()) {
      const bool collects = Collects(static_cast<int64_t>(calibration_.layers.size()));
      auto& statistics = calibration_.layers.emplace_back();
      information_.emplace_back();
      for (size_t s = 0; collects && s < kNumLinearSlots; ++s) Size(layer.linear[s], statistics[s]);
    }
    if (!pass.output) return;
    Size(model.output(), calibration_.output);
    Size(model.embedding(), embedding_);
  }

  void OnInput(int64_t layer, std::span<const Slot> slots, const Tensor& x) override {
    if (!Collects(layer)) return;
    auto& statistics = calibration_.layers[static_cast<size_t>(layer)];
    AddSquares(x, statistics[static_cast<size_t>(slots[0])].mean_squares);
    for (const Slot slot : slots) {
      statistics[static_cast<size_t>(slot)].mean_squares =
          statistics[static_cast<size_t>(slots[0])].mean_squares;
    }
  }
  void OnGradient(int64_t layer, Slot slot, const Tensor& x, const Tensor& y) override {
    if (!Collects(layer)) return;
    LayerStatistics& s = calibration_.layers[static_cast<size_t>(layer)][static_cast<size_t>(slot)];
    const int64_t n_out = y.cols();
    const float* g = y.grad();
    std::vector<double> weights(static_cast<size_t>(x.rows()));
    double& information = information_[static_cast<size_t>(layer)][static_cast<size_t>(slot)];
    for (int64_t t = 0; t < x.rows(); ++t) {
      const double weight = Square(g + t * n_out, n_out) / static_cast<double>(n_out);
      information += weight * Square(x.row(t), x.cols());
      weights[static_cast<size_t>(t)] = std::sqrt(weight);
      for (int64_t r = 0; r < n_out; ++r)
        s.row_weights[static_cast<size_t>(r)] += g[t * n_out + r] * g[t * n_out + r];
    }
    AddWeighted(ctx_, x, weights, s.hessian);
  }

  void OnEmbeddingGradient(std::span<const int32_t> tokens, const Tensor& x) override {
    if (!pass_.output) return;
    embedding_.hessian.Add(ctx_.pool, ctx_.kernels, x.grad(), x.rows());
    for (const int32_t token : tokens) embedding_.row_weights[static_cast<size_t>(token)] += 1;
  }

  void Window(std::span<const int32_t> tokens);
  // A window that another rank takes: its labels are drawn all the same, so that all others' stay as they
  // are.
  void Skip(std::span<const int32_t> tokens) { random_.discard(tokens.size()); }
  void Join();
  Calibration Finish();

 private:
  bool Collects(int64_t layer) const { return layer >= pass_.begin && layer < pass_.end; }
  static void Size(const Weight& w, LayerStatistics& statistics) {
    statistics.hessian = Hessian(w.n_in);
    statistics.row_weights.resize(static_cast<size_t>(w.n_out));
    statistics.mean_squares.resize(static_cast<size_t>(w.n_in));
  }
  static void AddSquares(const Tensor& x, std::vector<float>& sums) {
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += x.row(t)[i] * x.row(t)[i];
    }
  }
  void Labels(const Tensor& hidden, int64_t begin, int64_t n);
  void CollectOutput(const Context& ctx, const Tensor& rows, const Tensor& logits,
                     const std::vector<double>& weights);
  void FinishEmbedding();

  const Context& ctx_;
  const Model& model_;
  const CalibrationPass pass_;
  Calibration calibration_;
  LayerStatistics embedding_;
  std::vector<std::array<double, kNumLinearSlots>> information_;  // sums of |g|^2 / n_out * |x|^2
  std::mt19937_64 random_{0};
};

// Gradients of -log p(label) for labels drawn from p, for rows [begin, begin + n) of the hidden states.
void Collector::Labels(const Tensor& hidden, int64_t begin, int64_t n) {
  Tape tape;
  Context ctx = ctx_;
  ctx.tape = &tape;
  Tensor rows = Tensor::Empty(n, hidden.cols());
  std::memcpy(rows.data(), hidden.row(begin), static_cast<size_t>(rows.size()) * sizeof(float));
  rows.set_requires_grad(true);
  const Tensor logits = Logits(ctx, model_, rows);
  const int64_t vocab = logits.cols();
  std::vector<double> draws(static_cast<size_t>(n)), weights(draws.size());
  for (double& draw : draws) draw = std::uniform_real_distribution<double>()(random_);
  float* grad = logits.grad();
  ctx.pool.ParallelFor(n, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      float* p = grad + i * vocab;
      std::memcpy(p, logits.row(i), static_cast<size_t>(vocab) * sizeof(float));
      ctx.kernels.softmax(p, vocab);
      double left = draws[static_cast<size_t>(i)], expected = 0;
      int64_t label = 0;
      for (int64_t v = 0; v < vocab; ++v) {
        expected += static_cast<double>(p[v]) * (1 - p[v]);
        left -= p[v];
        if (left > 0) label = std::min(v + 1, vocab - 1);
      }
      weights[static_cast<size_t>(i)] = expected / static_cast<double>(vocab);
      p[label] -= 1;
    }
  });
  if (pass_.output) CollectOutput(ctx, rows, logits, weights);
  tape.Backward();
  std::memcpy(hidden.grad() + begin * hidden.cols(), rows.grad(),
              static_cast<size_t>(rows.size()) * sizeof(float));
}

// rows [n, d_model] went into the output, whose logits have their gradients.
void Collector::CollectOutput(const Context& ctx, const Tensor& rows, const Tensor& logits,
                              const std::vector<double>& weights) {
  LayerStatistics& out = calibration_.output;
  const int64_t vocab = logits.cols();
  const float* grad = logits.grad();
  ctx.pool.ParallelFor(vocab, 4096, [&](int64_t first, int64_t last, int) {
    for (int64_t i = 0; i < logits.rows(); ++i) {
      for (int64_t v = first; v < last; ++v) {
        out.row_weights[static_cast<size_t>(v)] += grad[i * vocab + v] * grad[i * vocab + v];
      }
    }
  });
  AddWeighted(ctx, rows, weights, out.hessian);
  AddSquares(rows, out.mean_squares);
}

void Collector::Window(std::span<const int32_t> tokens) {
  Tape tape;
  Context ctx = ctx_;
  ctx.tape = &tape;
  const Tensor hidden = ForwardHidden(ctx, model_, {.tokens = tokens, .observer = this});
  for (int64_t row = 0; row < hidden.rows(); row += kRowsAtOnce) {
    Labels(hidden, row, std::min(kRowsAtOnce, hidden.rows() - row));
  }
  tape.Backward();
  calibration_.n_tokens += static_cast<int64_t>(tokens.size());
}

// What all ranks have collected.
void Collector::Join() {
  if (ctx_.ranks.size() == 1) return;
  const auto join = [&](LayerStatistics& s) {
    for (std::vector<float>* sums : {&s.hessian.h, &s.row_weights, &s.mean_squares}) ctx_.ranks.Sum(*sums);
  };
  for (size_t i = 0; i < calibration_.layers.size(); ++i) {
    if (!Collects(static_cast<int64_t>(i))) continue;
    for (LayerStatistics& s : calibration_.layers[i]) join(s);
    ctx_.ranks.Sum(information_[i]);
  }
  if (pass_.output) {
    join(calibration_.output);
    join(embedding_);
  }
  double n_tokens = static_cast<double>(calibration_.n_tokens);
  ctx_.ranks.Sum({&n_tokens, 1});
  calibration_.n_tokens = static_cast<int64_t>(n_tokens);
}

// Tokens that the text does not have will still be read: each counts once more. A tied matrix has both costs.
void Collector::FinishEmbedding() {
  const ModelConfig& config = model_.config();
  const double vocab = static_cast<double>(embedding_.row_weights.size());
  const double tokens = static_cast<double>(std::max<int64_t>(calibration_.n_tokens, 1));
  const double scale = config.arch->scale_embedding ? static_cast<double>(config.d_model) : 1.0;
  for (float& h : embedding_.hessian.h) h *= static_cast<float>(scale / tokens / vocab);
  for (float& w : embedding_.row_weights) w = static_cast<float>((w + 1) * vocab / (tokens + vocab));
  if (!config.tied_embeddings) {
    calibration_.embedding = std::move(embedding_);
    return;
  }
  LayerStatistics& out = calibration_.output;
  const double read = embedding_.hessian.trace(), written = out.hessian.trace(), both = read + written;
  for (size_t i = 0; i < out.hessian.h.size(); ++i) out.hessian.h[i] += embedding_.hessian.h[i];
  for (size_t v = 0; v < out.row_weights.size() && both > 0; ++v) {
    out.row_weights[v] =
        static_cast<float>((written * out.row_weights[v] + read * embedding_.row_weights[v]) / both);
  }
}

Calibration Collector::Finish() {
  const double per_token = 1 / static_cast<double>(std::max<int64_t>(calibration_.n_tokens, 1));
  const auto finish = [&](LayerStatistics& s, double scale) {
    for (float& h : s.hessian.h) h *= static_cast<float>(scale * per_token);
    for (float& x : s.mean_squares) x *= static_cast<float>(per_token);
    double sum = 0;
    for (const float w : s.row_weights) sum += w;
    const double mean = sum / static_cast<double>(s.row_weights.size());
    for (float& w : s.row_weights) w = mean > 0 ? static_cast<float>(w / mean) : 1.0f;
  };
  for (size_t i = 0; i < calibration_.layers.size(); ++i) {
    for (size_t slot = 0; Collects(static_cast<int64_t>(i)) && slot < kNumLinearSlots; ++slot) {
      LayerStatistics& s = calibration_.layers[i][slot];
      const double trace = s.hessian.trace();
      finish(s, trace > 0 ? information_[i][slot] / trace : 1);
    }
  }
  if (pass_.output) {
    finish(calibration_.output, 1);
    FinishEmbedding();
  }
  return std::move(calibration_);
}

uint64_t HessianBytes(const Weight& w) {
  return static_cast<uint64_t>(w.n_in * w.n_in) * sizeof(float);
}

}  // namespace

Result<std::vector<CalibrationPass>> PlanPasses(const Model& model, uint64_t max_bytes) {
  std::vector<CalibrationPass> passes;
  uint64_t held = UINT64_MAX;  // by the last of them
  const int64_t n_layers = model.config().n_layers;
  for (int64_t i = 0; i <= n_layers; ++i) {
    const bool output = i == n_layers;
    uint64_t bytes = output ? HessianBytes(model.output()) + HessianBytes(model.embedding()) : 0;
    for (size_t s = 0; !output && s < kNumLinearSlots; ++s) {
      bytes += HessianBytes(model.layers()[static_cast<size_t>(i)].linear[s]);
    }
    if (bytes > max_bytes) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          "--calibration-memory: the statistics of {} alone take {:.3g} MB, the limit is {:.3g} MB",
          output ? "the output" : fmt::format("layer {}", i), static_cast<double>(bytes) * 1e-6,
          static_cast<double>(max_bytes) * 1e-6);
    }
    if (held > max_bytes - bytes) {
      passes.push_back({.begin = i, .end = i, .output = false});
      held = 0;
    }
    held += bytes;
    if (output) {
      passes.back().output = true;
    } else {
      passes.back().end = i + 1;
    }
  }
  return passes;
}

Result<Calibration> Calibrate(const Context& ctx, const Model& model,
                              std::span<const std::vector<int32_t>> windows, double max_seconds,
                              const ProgressFn& progress, const CalibrationPass& pass) {
  CHECK(ctx.ranks.size() == 1 || max_seconds == 0);
  const double begin = Seconds();
  Collector collector(ctx, model, pass);
  double done = 0, total = 0;
  for (const auto& window : windows) total += static_cast<double>(window.size());
  for (size_t i = 0; i < windows.size(); ++i) {
    done += static_cast<double>(windows[i].size());
    if (!ctx.ranks.Takes(static_cast<int64_t>(i))) {
      collector.Skip(windows[i]);
      continue;
    }
    collector.Window(windows[i]);
    if (progress && !progress({"calibrate", done, total, "tokens", ""})) {
      return MakeError(ErrorCode::kCancelled, "calibrate: cancelled");
    }
    if (max_seconds > 0 && Seconds() - begin > max_seconds) break;
  }
  collector.Join();
  return collector.Finish();
}

}  // namespace thimble

// What is collected, against direct computations on the golden models.
#include "quant/calibration.h"

#include <cmath>
#include <map>

#include "codec/codec.h"
#include "model/test_support.h"

namespace thimble {
namespace {

constexpr int64_t kWindow = 48;

std::vector<std::vector<int32_t>> RandomWindows(const Model& model, int n, uint64_t seed) {
  std::vector<std::vector<int32_t>> windows;
  windows.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    windows.push_back(RandomIds(kWindow, model.config().vocab_size, seed + static_cast<uint64_t>(i)));
  }
  return windows;
}

class CalibrationTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { model_ = GoldenModel(GetParam()); }

  Calibration CalibrateOrDie(const std::vector<std::vector<int32_t>>& windows, ThreadPool& pool) const {
    auto calibration = Calibrate({.pool = pool, .compute = Compute::kF32}, *model_, windows, 0, nullptr);
    EXPECT_TRUE(calibration);
    return std::move(*calibration);
  }
  Tensor Probabilities(const std::vector<int32_t>& window) const {
    Tensor logits = Logits(ctx_, *model_, ForwardHidden(ctx_, *model_, {.tokens = window}));
    for (int64_t i = 0; i < logits.rows(); ++i) ctx_.kernels.softmax(logits.row(i), logits.cols());
    return logits;
  }

  std::unique_ptr<Model> model_;
  mutable ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
};
INSTANTIATE_TEST_SUITE_P(Models, CalibrationTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

void ExpectNear(const std::vector<float>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-4 * want[i] + 1e-9) << i;
}

// The first layer's input is the normed embedding; the output's is what ForwardHidden gives.
TEST_P(CalibrationTest, MeanSquaresOfInputs) {
  const auto windows = RandomWindows(*model_, 3, 1);
  const Calibration calibration = CalibrateOrDie(windows, pool_);
  EXPECT_EQ(calibration.n_tokens, 3 * kWindow);
  const ModelConfig& c = model_->config();
  const size_t d = static_cast<size_t>(c.d_model);
  std::vector<double> first(d), last(d);
  std::vector<float> row(d);
  for (const auto& window : windows) {
    for (const int32_t token : window) {
      DecodeRow(model_->embedding().type, model_->embedding().row(token), row.data(), c.d_model);
      double squares = 0;
      const double scale = c.arch->scale_embedding ? std::sqrt(static_cast<double>(d)) : 1;
      for (float& x : row) squares += scale * x * scale * x;
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(d) + c.rms_eps);
      for (size_t i = 0; i < d; ++i) {
        first[i] +=
            std::pow(scale * row[i] * inverse * model_->layers()[0].norm(Slot::kAttnNorm).data()[i], 2);
      }
    }
    const Tensor hidden = ForwardHidden(ctx_, *model_, {.tokens = window});
    for (int64_t t = 0; t < hidden.rows(); ++t) {
      for (size_t i = 0; i < d; ++i) last[i] += std::pow(static_cast<double>(hidden.row(t)[i]), 2);
    }
  }
  for (double& x : first) x /= 3 * kWindow;
  for (double& x : last) x /= 3 * kWindow;
  for (const Slot slot : {Slot::kQ, Slot::kK, Slot::kV}) {
    ExpectNear(calibration.layers[0][static_cast<size_t>(slot)].mean_squares, first);
  }
  ExpectNear(calibration.output.mean_squares, last);
}

TEST_P(CalibrationTest, ShapesAndRowWeights) {
  const Calibration calibration = CalibrateOrDie(RandomWindows(*model_, 2, 1), pool_);
  const auto check = [](const LayerStatistics& s, const Weight& w) {
    EXPECT_EQ(s.hessian.n, w.n_in);
    ASSERT_EQ(static_cast<int64_t>(s.row_weights.size()), w.n_out);
    double sum = 0;
    for (const float weight : s.row_weights) {
      EXPECT_GE(weight, 0);
      sum += weight;
    }
    EXPECT_NEAR(sum / static_cast<double>(w.n_out), 1, 1e-5);
    for (int64_t i = 0; i < w.n_in; ++i) {
      EXPECT_GE(s.hessian.diagonal(i), 0);
      for (int64_t j = 0; j < i; ++j) {
        const double entry = s.hessian.h[static_cast<size_t>(i * w.n_in + j)];
        EXPECT_LE(entry * entry, 1.001 * s.hessian.diagonal(i) * s.hessian.diagonal(j) + 1e-20);
      }
    }
  };
  for (size_t i = 0; i < model_->layers().size(); ++i) {
    for (size_t s = 0; s < kNumLinearSlots; ++s)
      check(calibration.layers[i][s], model_->layers()[i].linear[s]);
  }
  check(calibration.output, model_->output());
}

TEST_P(CalibrationTest, ThreadsAndRunsDoNotChangeResults) {
  const auto windows = RandomWindows(*model_, 2, 5);
  ThreadPool one(1), three(3);
  const Calibration a = CalibrateOrDie(windows, one), b = CalibrateOrDie(windows, three);
  const auto same = [](const LayerStatistics& x, const LayerStatistics& y) {
    EXPECT_EQ(x.hessian.h, y.hessian.h);
    EXPECT_EQ(x.row_weights, y.row_weights);
    EXPECT_EQ(x.mean_squares, y.mean_squares);
  };
  for (size_t i = 0; i < a.layers.size(); ++i) {
    for (size_t s = 0; s < kNumLinearSlots; ++s) same(a.layers[i][s], b.layers[i][s]);
  }
  same(a.output, b.output);
}

TEST_P(CalibrationTest, TimeAndCancelling) {
  const auto windows = RandomWindows(*model_, 3, 1);
  const auto cut = Calibrate(ctx_, *model_, windows, 1e-9, nullptr);
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->n_tokens, kWindow);
  int calls = 0;
  const auto cancelled = Calibrate(ctx_, *model_, windows, 0, [&](const Progress& p) {
    EXPECT_EQ(p.total, 3 * kWindow);
    EXPECT_EQ(p.done, ++calls * kWindow);
    return calls < 2;
  });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(calls, 2);
}

struct CountingObserver : LayerObserver {
  std::map<std::pair<int64_t, Slot>, int> inputs, gradients;
  void OnInput(int64_t layer, std::span<const Slot> slots, const Tensor&) override {
    for (const Slot slot : slots) ++inputs[{layer, slot}];
  }
  void OnGradient(int64_t layer, Slot slot, const Tensor&, const Tensor&) override {
    ++gradients[{layer, slot}];
  }
};

TEST_P(CalibrationTest, ObserverSeesEachLayerOnceAndChangesNothing) {
  const auto ids = RandomIds(kWindow, model_->config().vocab_size, 3);
  const size_t n = model_->layers().size() * kNumLinearSlots;
  for (const Compute compute : {Compute::kF32, Compute::kInt8}) {
    Context ctx = ctx_;
    ctx.compute = compute;
    CountingObserver observer;
    const auto plain = Values(ForwardHidden(ctx, *model_, {.tokens = ids}));
    EXPECT_EQ(Values(ForwardHidden(ctx, *model_, {.tokens = ids, .observer = &observer})), plain);
    EXPECT_EQ(observer.inputs.size(), n);
    EXPECT_TRUE(observer.gradients.empty());
  }
  Tape tape;
  Context ctx = ctx_;
  ctx.tape = &tape;
  CountingObserver observer;
  const Tensor hidden = ForwardHidden(ctx, *model_, {.tokens = ids, .observer = &observer});
  std::fill_n(hidden.grad(), hidden.size(), 1.0f);
  tape.Backward();
  for (const auto& [place, count] : observer.inputs) EXPECT_EQ(count, 1);
  for (const auto& [place, count] : observer.gradients) EXPECT_EQ(count, 1);
  EXPECT_EQ(observer.inputs.size(), n);
  EXPECT_EQ(observer.gradients.size(), n);
}

// What holds on average only, and so takes thousands of tokens: on models that differ in more than their
// names.
class StatisticsTest : public CalibrationTest {
 protected:
  static constexpr double kStep = 0.01;  // of the root mean square of the weights

  double MeanKld(const std::vector<std::vector<int32_t>>& windows, const std::vector<Tensor>& before) const {
    double sum = 0;
    for (size_t i = 0; i < windows.size(); ++i) {
      const Tensor after = Probabilities(windows[i]);
      for (int64_t j = 0; j < after.size(); ++j) {
        const double p = before[i].data()[j], q = after.data()[j];
        sum += p > 0 ? p * std::log(p / q) : 0;
      }
    }
    return sum / static_cast<double>(windows.size() * kWindow);
  }
  static double Cost(const LayerStatistics& s, const std::vector<float>& e) {
    const int64_t n = s.hessian.n;
    double cost = 0;
    for (size_t r = 0; r < s.row_weights.size(); ++r) {
      const float* row = e.data() + r * static_cast<size_t>(n);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          cost += s.row_weights[r] * (i == j ? 0.5 : 1.0) * row[i] * row[j] *
                  s.hessian.h[static_cast<size_t>(i * n + j)];
        }
      }
    }
    return cost;
  }
};
INSTANTIATE_TEST_SUITE_P(Models, StatisticsTest,
                         testing::Values("gemma3_text", "llama", "llama_bias_tied", "qwen3"),
                         [](const auto& info) { return info.param; });

// Of the output matrix the gradient's expected square is known: sum of p (1 - p).
TEST_P(StatisticsTest, OutputHessianAndItsRows) {
  const auto windows = RandomWindows(*model_, 150, 1);
  const Calibration calibration = CalibrateOrDie(windows, pool_);
  const int64_t vocab = model_->config().vocab_size;
  double trace = 0, total = 0;
  std::vector<double> rows(static_cast<size_t>(vocab));
  for (const auto& window : windows) {
    const Tensor hidden = ForwardHidden(ctx_, *model_, {.tokens = window}), p = Probabilities(window);
    for (int64_t t = 0; t < kWindow; ++t) {
      double spread = 0, square = 0;
      for (int64_t v = 0; v < vocab; ++v) {
        const double q = p.row(t)[v] * (1.0 - p.row(t)[v]);
        spread += q;
        rows[static_cast<size_t>(v)] += q;
        total += q;
      }
      for (int64_t i = 0; i < hidden.cols(); ++i)
        square += std::pow(static_cast<double>(hidden.row(t)[i]), 2);
      trace += spread / static_cast<double>(vocab) * square / static_cast<double>(windows.size() * kWindow);
    }
  }
  if (model_->config().tied_embeddings) {  // the embedding's costs come on top
    EXPECT_GT(calibration.output.hessian.trace(), trace);
    EXPECT_EQ(calibration.embedding.hessian.n, 0);
    return;
  }
  EXPECT_NEAR(calibration.output.hessian.trace(), trace, 1e-3 * trace);
  // The rows' weights come from drawn labels, about thirty of each here: right where they are added up.
  double half = 0, drawn = 0;
  for (size_t v = 0; v < rows.size() / 2; ++v) {
    half += rows[v] / total * static_cast<double>(vocab);
    drawn += calibration.output.row_weights[v];
  }
  EXPECT_NEAR(drawn, half, 0.12 * half);
}

// As documented, the trace is the mean of |g|^2 / n_out * |x|^2; here with labels of the test's own.
struct TraceObserver : LayerObserver {
  std::map<std::pair<int64_t, Slot>, double> sums;
  void OnGradient(int64_t layer, Slot slot, const Tensor& x, const Tensor& y) override {
    const auto square = [](const float* v, int64_t n) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(v[i]) * v[i];
      return sum;
    };
    for (int64_t t = 0; t < x.rows(); ++t) {
      sums[{layer, slot}] += square(x.row(t), x.cols()) * square(y.grad() + t * y.cols(), y.cols()) /
                             static_cast<double>(y.cols());
    }
  }
};

TEST_P(StatisticsTest, TraceOfHessians) {
  const auto windows = RandomWindows(*model_, 150, 1);
  const Calibration calibration = CalibrateOrDie(windows, pool_);
  TraceObserver observer;
  Random random(77);
  for (const auto& window : windows) {
    Tape tape;
    Context ctx = ctx_;
    ctx.tape = &tape;
    const Tensor p = Probabilities(window);
    const Tensor hidden = ForwardHidden(ctx, *model_, {.tokens = window, .observer = &observer});
    const Tensor logits = Logits(ctx, *model_, hidden);
    for (int64_t t = 0; t < kWindow; ++t) {
      int64_t label = 0;
      for (double left = random.Uniform() - p.row(t)[0]; left > 0 && label + 1 < p.cols();) {
        left -= p.row(t)[++label];
      }
      for (int64_t v = 0; v < p.cols(); ++v) logits.grad()[t * p.cols() + v] = p.row(t)[v] - (v == label);
    }
    tape.Backward();
  }
  for (const auto& [place, sum] : observer.sums) {
    const double expected = sum / static_cast<double>(windows.size() * kWindow);
    const double trace =
        calibration.layers[static_cast<size_t>(place.first)][static_cast<size_t>(place.second)]
            .hessian.trace();
    EXPECT_GT(trace, 0.8 * expected) << place.first << ' ' << static_cast<int>(place.second);
    EXPECT_LT(trace, 1.25 * expected) << place.first << ' ' << static_cast<int>(place.second);
  }
  EXPECT_EQ(observer.sums.size(), model_->layers().size() * kNumLinearSlots);
}

// The head of calibration.h: KL(before || after) ~ sum of row_weights[r] * e_r H e_r^T / 2. That takes the
// gradients of different tokens for independent, which those of values are not: their errors, alike in all
// tokens, add up where later tokens attend to many.
TEST_P(StatisticsTest, PredictsTheDivergence) {
  const Calibration calibration = CalibrateOrDie(RandomWindows(*model_, 150, 1), pool_);
  const auto windows = RandomWindows(*model_, 12, 1);
  std::vector<Tensor> before;
  before.reserve(windows.size());
  for (const auto& window : windows) before.push_back(Probabilities(window));
  Random random(9);
  for (const size_t layer : {size_t{0}, model_->layers().size() - 1}) {
    for (size_t slot = 0; slot < kNumLinearSlots; ++slot) {
      const Weight original = model_->layers()[layer].linear[slot];
      const size_t size = static_cast<size_t>(original.n_out * original.n_in);
      std::vector<float> w(size), e(size);
      for (int64_t r = 0; r < original.n_out; ++r) {
        DecodeRow(original.type, original.row(r), w.data() + r * original.n_in, original.n_in);
      }
      double squares = 0;
      for (const float x : w) squares += static_cast<double>(x) * x;
      const double step = kStep * std::sqrt(squares / static_cast<double>(size));
      double predicted = 0, measured = 0;
      for (int drawing = 0; drawing < 4; ++drawing) {
        std::vector<float> moved = w;
        for (size_t i = 0; i < size; ++i) moved[i] += e[i] = static_cast<float>(step * random.Normal());
        Weight& weight = const_cast<Layer&>(model_->layers()[layer]).linear[slot];
        weight.type = WeightType::kF32;
        weight.data = reinterpret_cast<const uint8_t*>(moved.data());
        measured += MeanKld(windows, before);
        weight = original;
        predicted += Cost(calibration.layers[layer][slot], e);
      }
      EXPECT_GT(measured, predicted / 1.5) << layer << ' ' << slot << ' ' << measured << ' ' << predicted;
      const double most = slot == static_cast<size_t>(Slot::kV) ? 2.5 : 1.5;
      EXPECT_LT(measured, predicted * most) << layer << ' ' << slot << ' ' << measured << ' ' << predicted;
    }
  }
}

}  // namespace
}  // namespace thimble

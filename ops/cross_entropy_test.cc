#include "ops/cross_entropy.h"

#include "codec/codec.h"
#include "ops/test_support.h"

namespace thimble {
namespace {

class CrossEntropyTest : public OpsTest {
 protected:
  static constexpr int64_t kVocab = 19, kWidth = 32;

  void SetUp() override {
    const Tensor source = RandomTensor(kVocab, kWidth, 1, 0.4);
    values_ = Matrix(kVocab, kWidth);
    const size_t row = RowBytes(WeightType::kQ8_0, kWidth);
    bytes_.resize(row * kVocab);
    std::vector<float> decoded(kWidth);
    for (int64_t i = 0; i < kVocab; ++i) {
      EncodeRow(WeightType::kQ8_0, source.row(i), bytes_.data() + row * static_cast<size_t>(i), kWidth);
      DecodeRow(WeightType::kQ8_0, bytes_.data() + row * static_cast<size_t>(i), decoded.data(), kWidth);
      for (int64_t j = 0; j < kWidth; ++j) values_.at(i, j) = decoded[static_cast<size_t>(j)];
    }
    output_ = {"output", WeightType::kQ8_0, kVocab, kWidth, bytes_.data(), nullptr, nullptr};
  }

  double ReferenceLoss(const Matrix& x, const std::vector<int32_t>& labels) const {
    double total = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < x.rows; ++i) {
      const int32_t label = labels[static_cast<size_t>(i)];
      if (label < 0) continue;
      double sum = 0, target = 0;
      for (int64_t o = 0; o < kVocab; ++o) {
        double logit = 0;
        for (int64_t j = 0; j < kWidth; ++j) logit += x.at(i, j) * values_.at(o, j);
        sum += std::exp(logit);
        if (o == label) target = logit;
      }
      total += std::log(sum) - target;
      ++n;
    }
    return total / static_cast<double>(n);
  }

  std::vector<uint8_t> bytes_;
  Matrix values_;
  Weight output_;
};
INSTANTIATE_TEST_SUITE_P(Tiers, CrossEntropyTest, testing::ValuesIn(AllTiers()), TierName);

// One chunk has 128 labelled rows: below, at, and above its bounds, with ignored rows between.
TEST_P(CrossEntropyTest, LossAndGradientAcrossChunks) {
  for (const int64_t n : {1, 5, 128, 129, 300}) {
    for (const bool ignore : {false, true}) {
      SCOPED_TRACE(std::to_string(n) + (ignore ? " with ignored rows" : ""));
      std::vector<int32_t> labels;
      for (int64_t i = 0; i < n; ++i)
        labels.push_back(ignore && i % 3 == 1 ? -1 : static_cast<int32_t>(i * 7 % kVocab));
      const Tensor x = RandomTensor(n, kWidth, 4);
      x.set_requires_grad(true);
      const float scale = 0.25f;
      std::vector<float> gradients[2];
      double losses[2];
      for (int threads : {1, 3}) {
        ThreadPool pool(threads);
        Tape tape;
        Context ctx = ContextOn(pool);
        ctx.tape = &tape;
        std::fill(x.grad(), x.grad() + x.size(), 0.5f);
        const auto result = LinearCrossEntropy(ctx, output_, x, labels, scale);
        EXPECT_EQ(result.n_labels,
                  std::count_if(labels.begin(), labels.end(), [](int32_t t) { return t >= 0; }));
        tape.Backward();
        losses[threads == 3] = result.mean_loss;
        gradients[threads == 3].assign(x.grad(), x.grad() + x.size());
      }
      EXPECT_EQ(losses[0], losses[1]);
      EXPECT_EQ(gradients[0], gradients[1]);
      const Matrix exact = ToMatrix(x);
      EXPECT_NEAR(losses[0], ReferenceLoss(exact, labels), 5e-6);
      for (float& g : gradients[0]) g = (g - 0.5f) * static_cast<float>(n);  // of the size of one
      const auto reference = [&](const std::vector<Matrix>& in) {
        Matrix loss(1, 1);
        loss.at(0, 0) = ReferenceLoss(in[0], labels);
        return loss;
      };
      // Differences of one row change one term only, so a few rows stand for all.
      if (n > 5) continue;
      ExpectNear(gradients[0].data(),
                 NumericGradient(reference, {exact}, 0, {scale * static_cast<double>(n)}), 1e-4, "gradient");
    }
  }
}

// The analytic gradient in double precision, for all rows of the larger cases.
TEST_P(CrossEntropyTest, EveryRowOfManyChunks) {
  const int64_t n = 300;
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(i % 5 == 0 ? -1 : static_cast<int32_t>(i % kVocab));
  const Tensor x = RandomTensor(n, kWidth, 4);
  x.set_requires_grad(true);
  ThreadPool pool(2);
  Tape tape;
  Context ctx = ContextOn(pool);
  ctx.tape = &tape;
  const auto result = LinearCrossEntropy(ctx, output_, x, labels);
  tape.Backward();
  const Matrix exact = ToMatrix(x);
  EXPECT_NEAR(result.mean_loss, ReferenceLoss(exact, labels), 5e-6);
  Matrix expected(n, kWidth);
  for (int64_t i = 0; i < n; ++i) {
    if (labels[static_cast<size_t>(i)] < 0) continue;
    std::vector<double> p(kVocab);
    double sum = 0;
    for (int64_t o = 0; o < kVocab; ++o) {
      double logit = 0;
      for (int64_t j = 0; j < kWidth; ++j) logit += exact.at(i, j) * values_.at(o, j);
      sum += p[static_cast<size_t>(o)] = std::exp(logit);
    }
    for (int64_t o = 0; o < kVocab; ++o) {
      const double slope = p[static_cast<size_t>(o)] / sum - (o == labels[static_cast<size_t>(i)] ? 1 : 0);
      for (int64_t j = 0; j < kWidth; ++j) {
        expected.at(i, j) += slope * values_.at(o, j) / static_cast<double>(result.n_labels);
      }
    }
  }
  for (int64_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(x.grad()[i], expected.values[static_cast<size_t>(i)], 1e-7)
        << i / kWidth << ", " << i % kWidth;
  }
}

// The sweep through a vocabulary of several stretches, the last one short, against the chunks of rows in F32;
// the same on any number of threads, and with and without the gradient.
TEST_P(CrossEntropyTest, Bf16SweepsTheVocabulary) {
  if (kernels_.matmul_bf16 == nullptr) GTEST_SKIP() << kernels_.name << " has no BF16 product";
  constexpr int64_t kRows = 300, kIn = 288, kOut = 2100;
  const Tensor values = RandomTensor(kOut, kIn, 1, 0.15);
  Weight output = TrainedWeight("output", values);
  output.trained = Tensor();
  ThreadPool one(1), three(3);
  for (const int64_t n : {int64_t{1}, int64_t{5}, int64_t{130}, kRows}) {
    for (const bool ignore : {false, true}) {
      SCOPED_TRACE(std::to_string(n) + (ignore ? " with ignored rows" : ""));
      std::vector<int32_t> labels;
      for (int64_t i = 0; i < n; ++i)
        labels.push_back(ignore && i % 3 == 1 ? -1 : static_cast<int32_t>((i * 977 + kOut - 1) % kOut));
      std::vector<double> losses;
      std::vector<std::vector<float>> gradients;
      const Tensor x = RandomTensor(n, kIn, 4);
      // Of some rows, the label is so likely that the gradient is small.
      for (int64_t i = 0; i < n; i += 2) {
        if (labels[static_cast<size_t>(i)] >= 0)
          kernels_.axpy(2, values.row(labels[static_cast<size_t>(i)]), x.row(i), kIn);
      }
      x.set_requires_grad(true);
      for (const auto& [pool, compute] : {std::pair(&one, Compute::kF32), std::pair(&one, Compute::kBf16),
                                          std::pair(&three, Compute::kBf16)}) {
        Context ctx = ContextOn(*pool, compute);
        const LossResult evaluated = LinearCrossEntropy(ctx, output, x, labels);
        Tape tape;
        ctx.tape = &tape;
        std::fill_n(x.grad(), x.size(), 0.5f);
        const LossResult result = LinearCrossEntropy(ctx, output, x, labels, static_cast<float>(n));
        EXPECT_EQ(result.n_labels,
                  std::count_if(labels.begin(), labels.end(), [](int32_t t) { return t >= 0; }));
        EXPECT_EQ(result.mean_loss, evaluated.mean_loss);
        losses.push_back(result.mean_loss);
        gradients.emplace_back(x.grad(), x.grad() + x.size());
      }
      EXPECT_NE(losses[0], losses[1]);
      EXPECT_EQ(losses[1], losses[2]);
      EXPECT_EQ(gradients[1], gradients[2]);
      EXPECT_NEAR(losses[1], losses[0], 0.02 * std::min(1.0, losses[0]));
      for (int64_t i = 0; i < n; ++i) {
        double error = 0, norm = 0;
        for (auto j = static_cast<size_t>(i * kIn); j < static_cast<size_t>((i + 1) * kIn); ++j) {
          error += std::pow(static_cast<double>(gradients[1][j]) - gradients[0][j], 2);
          norm += std::pow(static_cast<double>(gradients[0][j]) - 0.5, 2);
        }
        EXPECT_LE(std::sqrt(error), 0.03 * std::sqrt(norm)) << "row " << i;
        EXPECT_EQ(norm == 0, labels[static_cast<size_t>(i)] < 0);
      }
    }
  }
}

// Against a teacher with other weights and another width.
TEST_P(CrossEntropyTest, KlDivergenceAndItsGradient) {
  constexpr int64_t kTeacherWidth = 8;
  const Tensor teacher_values = RandomTensor(kVocab, kTeacherWidth, 8, 0.8);
  const Weight teacher_output = TrainedWeight("teacher", teacher_values);
  for (const int64_t n : {4, 130}) {
    SCOPED_TRACE(n);
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < n; ++i) labels.push_back(i % 4 == 1 ? -1 : 0);
    const Tensor teacher = RandomTensor(n, kTeacherWidth, 9), x = RandomTensor(n, kWidth, 4);
    x.set_requires_grad(true);
    const auto log_softmax = [](const Matrix& hidden, int64_t row, const Matrix& weights) {
      std::vector<double> logits(kVocab);
      double sum = 0;
      for (int64_t o = 0; o < kVocab; ++o) {
        for (int64_t j = 0; j < weights.cols; ++j) logits[o] += hidden.at(row, j) * weights.at(o, j);
        sum += std::exp(logits[o]);
      }
      for (double& logit : logits) logit -= std::log(sum);
      return logits;
    };
    const auto reference = [&](const std::vector<Matrix>& in) {
      Matrix loss(1, 1);
      int64_t n_labels = 0;
      for (int64_t i = 0; i < n; ++i) {
        if (labels[static_cast<size_t>(i)] < 0) continue;
        ++n_labels;
        const auto p = log_softmax(ToMatrix(teacher), i, ToMatrix(teacher_values)),
                   q = log_softmax(in[0], i, values_);
        for (size_t o = 0; o < kVocab; ++o) loss.at(0, 0) += std::exp(p[o]) * (p[o] - q[o]);
      }
      loss.at(0, 0) /= static_cast<double>(n_labels);
      return loss;
    };
    std::vector<float> gradients[2];
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      Context ctx = ContextOn(pool);
      Tape tape;
      ctx.tape = &tape;
      x.ZeroGrad();
      const LossResult result = LinearKlDivergence(ctx, output_, x, teacher_output, teacher, labels, 0.5f);
      EXPECT_NEAR(result.mean_loss, reference({ToMatrix(x)}).at(0, 0), 1e-5);
      EXPECT_EQ(result.n_labels, n - (n + 2) / 4);
      gradients[threads == 3].assign(x.grad(), x.grad() + x.size());
    }
    EXPECT_EQ(gradients[0], gradients[1]);
    if (n > 4) continue;
    ExpectNear(gradients[0].data(), NumericGradient(reference, {ToMatrix(x)}, 0, {0.5}), 1e-5, "gradient");
    EXPECT_EQ(gradients[0][kWidth], 0);  // of the row that is not labelled
  }
  ThreadPool pool(2);
  const Tensor x = RandomTensor(3, kTeacherWidth, 4);
  const std::vector<int32_t> labels{0, 0, 0};
  EXPECT_NEAR(LinearKlDivergence(ContextOn(pool), teacher_output, x, teacher_output, x, labels).mean_loss, 0,
              1e-6);
}

TEST_P(CrossEntropyTest, HiddenStateErrorAndItsGradient) {
  ThreadPool pool(2);
  Context ctx = ContextOn(pool);
  const Tensor teacher = RandomTensor(5, kWidth, 9), x = RandomTensor(5, kWidth, 4);
  std::fill_n(teacher.row(3), kWidth, 0.0f);
  const std::vector<int32_t> labels{0, -1, 2, 0, 1};
  const auto reference = [&](const std::vector<Matrix>& in) {
    Matrix loss(1, 1);
    for (const int64_t i : {0, 2, 4}) {
      double square = 0, error = 0;
      for (int64_t j = 0; j < kWidth; ++j) {
        const double t = teacher.row(i)[j];
        square += t * t;
        error += (in[0].at(i, j) - t) * (in[0].at(i, j) - t);
      }
      loss.at(0, 0) += error / square / 3;
    }
    return loss;
  };
  EXPECT_NEAR(HiddenStateError(ctx, x, teacher, labels).mean_loss, reference({ToMatrix(x)}).at(0, 0), 1e-5);
  Tape tape;
  ctx.tape = &tape;
  x.set_requires_grad(true);
  x.ZeroGrad();
  EXPECT_EQ(HiddenStateError(ctx, x, teacher, labels, 0.5f).n_labels, 3);
  ExpectNear(x.grad(), NumericGradient(reference, {ToMatrix(x)}, 0, {0.5}), 1e-5, "gradient");
}

TEST_P(CrossEntropyTest, NothingLabelled) {
  ThreadPool pool(1);
  const Tensor x = RandomTensor(3, kWidth, 4);
  const std::vector<int32_t> labels{-1, -1, -1};
  const auto result = LinearCrossEntropy(ContextOn(pool), output_, x, labels);
  EXPECT_EQ(result.n_labels, 0);
  EXPECT_EQ(result.mean_loss, 0);
}

}  // namespace
}  // namespace thimble

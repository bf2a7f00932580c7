#include "quant/feedback_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "codec/codec.h"

namespace thimble {
namespace {

constexpr int64_t kColumns = 512, kRowsTested = 40;

// Inputs whose columns depend on each other, as a layer's do: a few directions carry most of them.
Hessian CorrelatedInputs(ThreadPool& pool) {
  constexpr int64_t kTokens = 1500, kDirections = 100;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> mix(kDirections * kColumns), x(kTokens * kColumns), z(kDirections);
  for (float& m : mix) m = normal(random);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (float& v : z) v = normal(random);
    for (int64_t j = 0; j < kColumns; ++j) {
      float sum = normal(random);
      for (int64_t d = 0; d < kDirections; ++d) {
        sum += 0.3f * z[static_cast<size_t>(d)] * mix[static_cast<size_t>(d * kColumns + j)];
      }
      x[static_cast<size_t>(t * kColumns + j)] = sum;
    }
  }
  Hessian hessian(kColumns);
  hessian.Add(pool, Kernels(), x.data(), kTokens / 2);
  hessian.Add(pool, Kernels(), x.data() + kTokens / 2 * kColumns, kTokens - kTokens / 2);
  return hessian;
}

double Cost(const Hessian& h, const std::vector<double>& e) {
  double sum = 0;
  for (int64_t i = 0; i < h.n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      sum += (i == j ? 1 : 2) * e[static_cast<size_t>(i)] * e[static_cast<size_t>(j)] *
             h.h[static_cast<size_t>(i * h.n + j)];
    }
  }
  return sum;
}

struct Inputs {
  ThreadPool pool{2};
  Hessian hessian = CorrelatedInputs(pool);
  std::vector<float> w;
  HessianFactor factor = Factorize(pool, Kernels(), hessian, ColumnOrder::kAscending, 1e-4f).value(),
                rings = Factorize(pool, Kernels(), hessian, ColumnOrder::kRings, 1e-4f).value();

  const HessianFactor& Of(WeightType type) const {
    return OrderOf(type) == ColumnOrder::kRings ? rings : factor;
  }
  Inputs() : w(kRowsTested * kColumns) {
    std::mt19937 random(8);
    std::normal_distribution<float> normal(0.01f, 0.05f);
    for (float& v : w) v = normal(random);
  }
};
const Inputs& SharedInputs() {
  static const Inputs inputs;
  return inputs;
}

class HessianOrderTest : public testing::TestWithParam<ColumnOrder> {};

TEST_P(HessianOrderTest, FactorsGiveTheHessianBack) {
  const Inputs& in = SharedInputs();
  const HessianFactor& f = GetParam() == ColumnOrder::kRings ? in.rings : in.factor;
  double mean = 0;
  for (int64_t i = 0; i < kColumns; ++i) mean += in.hessian.diagonal(i) / static_cast<double>(kColumns);
  const auto c = [&](int64_t i, int64_t j) {  // upper triangular
    const double diagonal = f.diagonal[static_cast<size_t>(j)];
    return i == j ? diagonal : i < j ? f.feedback[static_cast<size_t>(j * kColumns + i)] * diagonal : 0.0;
  };
  for (const int64_t i : {0, 1, 63, 64, 65, 300, 511}) {
    for (const int64_t j : {0, 5, 64, 129, 511}) {
      if (j > i) continue;
      double sum = 0;
      for (int64_t k = i; k < kColumns; ++k) sum += c(i, k) * c(j, k);
      const int64_t row = ColumnAt(GetParam(), i), column = ColumnAt(GetParam(), j);
      const double expected =
          in.hessian.h[static_cast<size_t>(std::max(row, column) * kColumns + std::min(row, column))] +
          (i == j ? 1e-4 * mean : 0);
      EXPECT_NEAR(sum, expected, 1e-4 * mean) << i << " " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, HessianOrderTest,
                         testing::Values(ColumnOrder::kAscending, ColumnOrder::kRings), [](const auto& info) {
                           return info.param == ColumnOrder::kRings ? "Rings" : "Ascending";
                         });

TEST(HessianTest, NumbersThatAreNotFiniteAreAnError) {
  ThreadPool pool(1);
  Hessian hessian(4);
  hessian.h[5] = NAN;
  EXPECT_FALSE(Factorize(pool, Kernels(), hessian));
}

TEST(HessianTest, AnInputThatIsAlwaysZeroIsNoError) {
  ThreadPool pool(1);
  EXPECT_TRUE(Factorize(pool, Kernels(), Hessian(32)));
}

class FeedbackRoundingTest : public testing::TestWithParam<WeightType> {};

TEST_P(FeedbackRoundingTest, CostsWhatItSaysAndLessThanRoundingAlone) {
  const Inputs& in = SharedInputs();
  const WeightType type = GetParam();
  const size_t row_bytes = RowBytes(type, kColumns);
  std::vector<uint8_t> out(row_bytes * kRowsTested), plain(row_bytes);
  std::vector<double> costs(kRowsTested);
  for (int64_t row = 0; row < kRowsTested; row += kRoundRows) {
    RoundWithFeedback(Kernels(), type, std::min<int64_t>(kRoundRows, kRowsTested - row),
                      in.w.data() + row * kColumns, kColumns, in.Of(type),
                      out.data() + static_cast<size_t>(row) * row_bytes, costs.data() + row);
  }
  std::vector<float> importance(kColumns), value(kColumns);
  for (int64_t i = 0; i < kColumns; ++i) importance[static_cast<size_t>(i)] = in.hessian.diagonal(i);
  double with_feedback = 0, alone = 0;
  for (int64_t row = 0; row < kRowsTested; ++row) {
    const float* w = in.w.data() + row * kColumns;
    std::vector<double> e(kColumns);
    const auto cost_of = [&](const uint8_t* bytes) {
      DecodeRow(type, bytes, value.data(), kColumns);
      for (size_t i = 0; i < e.size(); ++i) e[i] = static_cast<double>(w[i]) - value[i];
      return Cost(in.hessian, e);
    };
    EncodeRow(type, w, plain.data(), kColumns, importance.data());
    alone += cost_of(plain.data());
    const double cost = cost_of(out.data() + static_cast<size_t>(row) * row_bytes);
    with_feedback += cost;
    // The damping's share is in what it says.
    EXPECT_NEAR(costs[static_cast<size_t>(row)], cost, 0.1 * cost) << row;
  }
  const std::string name = Name(type);
  const bool book = name.starts_with("IQ2") || name.starts_with("IQ3");
  EXPECT_LT(with_feedback, (book ? 1.001 : 0.4) * alone);
}

// Weights of a model that was quantized once, and written in F16 since.
TEST_P(FeedbackRoundingTest, StaysOnAGrid) {
  const Inputs& in = SharedInputs();
  const WeightType type = GetParam();
  const size_t row_bytes = RowBytes(type, kColumns);
  std::vector<uint8_t> once(row_bytes), again(row_bytes * kRoundRows), half(2 * kColumns);
  std::vector<float> w(kRoundRows * kColumns), value(kColumns);
  for (int64_t row = 0; row < kRoundRows; ++row) {
    float* x = w.data() + row * kColumns;
    EncodeRow(type, in.w.data() + row * kColumns, once.data(), kColumns, nullptr);
    DecodeRow(type, once.data(), x, kColumns);
    EncodeRow(WeightType::kF16, x, half.data(), kColumns, nullptr);
    DecodeRow(WeightType::kF16, half.data(), x, kColumns);
  }
  double costs[kRoundRows];
  RoundWithFeedback(Kernels(), type, kRoundRows, w.data(), kColumns, in.Of(type), again.data(), costs);
  int stayed = 0;
  for (int64_t row = 0; row < kRoundRows; ++row) {
    DecodeRow(type, again.data() + static_cast<size_t>(row) * row_bytes, value.data(), kColumns);
    double error = 0, sum = 0;
    for (int64_t i = 0; i < kColumns; ++i) {
      const double x = w[static_cast<size_t>(row * kColumns + i)], e = x - value[static_cast<size_t>(i)];
      error += e * e;
      sum += x * x;
    }
    if (costs[row] == 0) {
      EXPECT_LT(error, 1.01e-6 * sum) << row;
    }
    stayed += costs[row] == 0;
  }
  EXPECT_GE(stayed, kRoundRows / 2);  // a search for scales may miss some grids
}

// It is the caller who finds them, in what the row came to.
TEST_P(FeedbackRoundingTest, WeightsThatAreNotFiniteAreRoundedToSomething) {
  const Inputs& in = SharedInputs();
  std::vector<float> w(in.w.begin(), in.w.begin() + kColumns);
  w[100] = NAN;
  w[300] = INFINITY;
  std::vector<uint8_t> out(RowBytes(GetParam(), kColumns));
  double cost = 0;
  RoundWithFeedback(Kernels(), GetParam(), 1, w.data(), kColumns, in.Of(GetParam()), out.data(), &cost);
}

std::vector<WeightType> QuantizedTypes() {
  std::vector<WeightType> types;
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (info.quantized) types.push_back(info.type);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, FeedbackRoundingTest, testing::ValuesIn(QuantizedTypes()),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace thimble

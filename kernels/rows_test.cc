#include <cmath>
#include <limits>

#include "kernels/test_support.h"

namespace thimble {
namespace {

constexpr int64_t kSizes[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 577, 4099};
constexpr double kUlp = 0x1p-23;  // of 1

class RowsTest : public KernelsTest {};

TEST_P(RowsTest, DotAndAxpy) {
  for (int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const std::vector<float> x = RandomFloats(static_cast<size_t>(n), 1);
    std::vector<float> y = RandomFloats(static_cast<size_t>(n) + 1, 2);
    double sum = 0, magnitude = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += static_cast<double>(x[i]) * y[i];
      magnitude += std::fabs(static_cast<double>(x[i]) * y[i]);
    }
    EXPECT_NEAR(kernels_.dot(x.data(), y.data(), n), sum, kUlp / 2 * static_cast<double>(n) * magnitude);
    const std::vector<float> before = y;
    kernels_.axpy(-1.7f, x.data(), y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double product = -1.7f * static_cast<double>(x[i]);
      ASSERT_NEAR(y[i], before[i] + product, kUlp * (std::fabs(product) + std::fabs(before[i])));
    }
    EXPECT_EQ(y.back(), before.back());
  }
}

TEST_P(RowsTest, Softmax) {
  for (int64_t n : kSizes) {
    SCOPED_TRACE(n);
    std::vector<float> x = RandomFloats(static_cast<size_t>(n) + 1, 3, 8.0f);
    x[0] = 40.0f;
    if (n > 2) x[1] = -std::numeric_limits<float>::infinity();
    const std::vector<float> before = x;
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(before[static_cast<size_t>(i)]));
    const float log_sum = kernels_.softmax(x.data(), n);
    EXPECT_NEAR(log_sum, std::log(sum), 1e-5);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      const double expected = std::exp(static_cast<double>(before[i])) / sum;
      // x - max rounds to half an ulp of the difference, which the exponential turns into a relative error.
      const double relative = 4 * kUlp + std::fabs(before[i] - 40.0) * kUlp;
      ASSERT_NEAR(x[i], expected, std::isinf(before[i]) ? 0.0 : relative * expected + 1e-44) << i;
    }
    EXPECT_EQ(x.back(), before.back());
  }
}

TEST_P(RowsTest, SoftmaxOfAMaskedRowIsZero) {
  std::vector<float> x(19, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(kernels_.softmax(x.data(), 19), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(x, std::vector<float>(19, 0.0f));
}

TEST_P(RowsTest, GatedActivations) {
  constexpr double kRootTwoOverPi = 0.79788456080286535588;
  for (int64_t n : kSizes) {
    SCOPED_TRACE(n);
    std::vector<float> gate = RandomFloats(static_cast<size_t>(n), 4, 6.0f);
    const std::vector<float> up = RandomFloats(static_cast<size_t>(n), 5);
    if (n > 3) gate[1] = 100.0f, gate[2] = -100.0f, gate[3] = 0.0f;
    std::vector<float> y(static_cast<size_t>(n) + 1, 9.0f);
    kernels_.silu_mul(gate.data(), up.data(), y.data(), n);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double x = gate[i];
      const double expected = x / (1 + std::exp(-x)) * up[i];
      ASSERT_NEAR(y[i], expected, 5 * kUlp * std::fabs(expected) + 1e-36) << "silu of " << x;
    }
    kernels_.gelu_mul(gate.data(), up.data(), y.data(), n);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double x = gate[i];
      const double u = kRootTwoOverPi * (x + 0.044715 * x * x * x);
      const double expected = x / (1 + std::exp(-2 * u)) * up[i];
      // The argument of the exponential carries about two roundings of its own.
      const double relative = (6 + 6 * std::fabs(u)) * kUlp;
      ASSERT_NEAR(y[i], expected, relative * std::fabs(expected) + 1e-14) << "gelu of " << x;
    }
    EXPECT_EQ(y.back(), 9.0f);
  }
}

TEST_P(RowsTest, NanIsNotHidden) {
  std::vector<float> x(33, 1.0f);
  x[20] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> y(33, 1.0f);
  kernels_.silu_mul(x.data(), y.data(), y.data(), 33);
  EXPECT_TRUE(std::isnan(y[20]));
  EXPECT_FALSE(std::isnan(y[19]));
  EXPECT_TRUE(std::isnan(kernels_.softmax(x.data(), 33)));
}

INSTANTIATE_TEST_SUITE_P(Tiers, RowsTest, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

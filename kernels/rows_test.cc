#include <cmath>
#include <limits>

#include "base/half.h"
#include "kernels/test_support.h"

namespace thimble {
namespace {

constexpr int64_t kSizes[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 577, 4099};
constexpr double kUlp = 0x1p-23;  // of 1

std::vector<uint16_t> Rounded(const std::vector<float>& x) {
  std::vector<uint16_t> y(x.size());
  std::transform(x.begin(), x.end(), y.begin(), FloatToBf16);
  return y;
}

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

TEST_P(RowsTest, RmsNorm) {
  for (int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const std::vector<float> x = RandomFloats(static_cast<size_t>(n), 6, 3.0f);
    const std::vector<float> weight = RandomFloats(static_cast<size_t>(n), 7);
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    const double s = 1 / std::sqrt(squares / static_cast<double>(n) + 0.01);
    std::vector<float> y(x.size() + 1, 9.0f);
    kernels_.rms_norm(x.data(), weight.data(), 0.01f, y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = x[i] * s * weight[i];
      // The sum of squares of n numbers errs by at most n / 2 roundings, far less as four vectors are summed.
      ASSERT_NEAR(y[i], expected, (4 + 0.02 * static_cast<double>(n)) * kUlp * std::fabs(expected)) << i;
    }
    EXPECT_EQ(y.back(), 9.0f);
  }
}

// Gradients are held to the reference tier's, which are in double precision; ops' tests hold those to
// differences.
TEST_P(RowsTest, GradientsOfRowsEqualTheReferences) {
  const KernelTable& ref = *FindKernels("ref");
  for (int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const size_t size = static_cast<size_t>(n);
    std::vector<float> gate = RandomFloats(size, 4, 6.0f);
    if (n > 3) gate[1] = 100.0f, gate[2] = -100.0f, gate[3] = 0.0f;
    const std::vector<float> up = RandomFloats(size, 5), dy = RandomFloats(size, 6);
    const std::vector<float> before = RandomFloats(size + 1, 7), more = RandomFloats(size + 1, 8);
    const auto expect_near = [&](const std::vector<float>& y, const std::vector<float>& expected) {
      for (size_t i = 0; i <= size; ++i)
        ASSERT_NEAR(y[i], expected[i], 3e-6 * (1 + std::fabs(expected[i]))) << i;
    };
    const auto expect_reference = [&](const auto backward, const auto& gate, const auto& up) {
      std::vector<float> dgate = before, dup = more, expected_dgate = before, expected_dup = more;
      (kernels_.*backward)(gate.data(), up.data(), dy.data(), dgate.data(), dup.data(), n);
      (ref.*backward)(gate.data(), up.data(), dy.data(), expected_dgate.data(), expected_dup.data(), n);
      expect_near(dgate, expected_dgate);
      expect_near(dup, expected_dup);
    };
    expect_reference(&KernelTable::silu_mul_backward, gate, up);
    expect_reference(&KernelTable::gelu_mul_backward, gate, up);
    expect_reference(&KernelTable::silu_mul_bf16_backward, Rounded(gate), Rounded(up));
    expect_reference(&KernelTable::gelu_mul_bf16_backward, Rounded(gate), Rounded(up));
    std::vector<float> dx = before, expected_dx = before;
    kernels_.rms_norm_backward(gate.data(), up.data(), 0.01f, dy.data(), dx.data(), n);
    ref.rms_norm_backward(gate.data(), up.data(), 0.01f, dy.data(), expected_dx.data(), n);
    expect_near(dx, expected_dx);
  }
}

TEST_P(RowsTest, RotationTurnsPairsAndBack) {
  for (const int64_t n : {2, 4, 6, 14, 16, 30, 32, 34, 64, 80, 256}) {
    for (const bool halves : {true, false}) {
      SCOPED_TRACE(testing::Message() << n << (halves ? " in halves" : " neighbours"));
      const auto rotate = halves ? kernels_.rotate_halves : kernels_.rotate_neighbours;
      const auto partner = [&](int64_t i) { return halves ? (i + n / 2) % n : i ^ 1; };
      std::vector<float> cos(static_cast<size_t>(n)), sin(cos.size());
      for (int64_t i = 0; i < n; ++i) {
        const int64_t p = partner(i);
        const double angle = 0.37 * static_cast<double>(std::min(i, p) + 1);
        cos[static_cast<size_t>(i)] = static_cast<float>(std::cos(angle));
        sin[static_cast<size_t>(i)] = static_cast<float>(i < p ? -std::sin(angle) : std::sin(angle));
      }
      std::vector<float> x = RandomFloats(static_cast<size_t>(n) + 1, 8);
      const std::vector<float> before = x;
      rotate(x.data(), cos.data(), sin.data(), 1, n);
      for (int64_t i = 0; i < n; ++i) {
        const size_t at = static_cast<size_t>(i), p = static_cast<size_t>(partner(i));
        const double expected =
            static_cast<double>(before[at]) * cos[at] + static_cast<double>(before[p]) * sin[at];
        ASSERT_NEAR(x[at], expected, 2 * kUlp * (std::fabs(before[at]) + std::fabs(before[p]))) << i;
      }
      rotate(x.data(), cos.data(), sin.data(), -1, n);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], before[i], 20 * kUlp) << i;
    }
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

TEST_P(RowsTest, GatedActivationsOfBf16EqualThoseOfItsNumbers) {
  for (int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const size_t size = static_cast<size_t>(n);
    const std::vector<uint16_t> gate = Rounded(RandomFloats(size, 4, 6.0f)),
                                up = Rounded(RandomFloats(size, 5));
    std::vector<float> gate32(size), up32(size);
    std::transform(gate.begin(), gate.end(), gate32.begin(), Bf16ToFloat);
    std::transform(up.begin(), up.end(), up32.begin(), Bf16ToFloat);
    const std::vector<float> dy = RandomFloats(size, 6);
    std::vector<float> y(size + 1, 9.0f), expected = y;
    kernels_.silu_mul_bf16(gate.data(), up.data(), y.data(), n);
    kernels_.silu_mul(gate32.data(), up32.data(), expected.data(), n);
    EXPECT_EQ(y, expected);
    kernels_.gelu_mul_bf16(gate.data(), up.data(), y.data(), n);
    kernels_.gelu_mul(gate32.data(), up32.data(), expected.data(), n);
    EXPECT_EQ(y, expected);
    std::vector<float> dgate(size + 1), dup(size + 1), expected_dgate(size + 1), expected_dup(size + 1);
    kernels_.silu_mul_backward(gate32.data(), up32.data(), dy.data(), expected_dgate.data(),
                               expected_dup.data(), n);
    std::fill_n(dgate.begin(), size, 7.0f);  // is written over
    std::fill_n(dup.begin(), size, 7.0f);
    kernels_.silu_mul_bf16_backward(gate.data(), up.data(), dy.data(), dgate.data(), dup.data(), n);
    EXPECT_EQ(dgate, expected_dgate);
    EXPECT_EQ(dup, expected_dup);
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

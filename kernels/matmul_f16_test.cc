#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/codec.h"
#include "kernels/test_support.h"

namespace thimble {
namespace {

class MatmulF16Test : public KernelsTest {
 protected:
  void SetUp() override {
    if (kernels_.matmul_f16 == nullptr) GTEST_SKIP() << kernels_.name << " decodes F16 weights";
  }
  // y [m, ldy] of weights [n_rows, k] and activations [m, k]; columns from n_rows on stay 5.
  std::vector<float> Multiply(const std::vector<uint8_t>& w, const std::vector<float>& x, int64_t m,
                              int64_t n_rows, int64_t k, int64_t ldy) const {
    const auto packed = Pack(kernels_, WeightType::kF16, n_rows, k, w.data(), static_cast<size_t>(k) * 2);
    std::vector<ActivationBlock16> blocks(static_cast<size_t>(m * k / 32));
    kernels_.quantize_activations16(x.data(), blocks.data(), m * k);
    std::vector<float> y(static_cast<size_t>(m * ldy), 5.0f);
    kernels_.matmul_f16(m, n_rows, k, packed.data(), blocks.data(), k / 32, y.data(), ldy);
    return y;
  }
};

std::vector<uint8_t> RandomHalves(int64_t n, uint32_t seed, float scale = 0.1f) {
  const std::vector<float> values = RandomFloats(static_cast<size_t>(n), seed, scale);
  std::vector<uint8_t> halves(values.size() * 2);
  EncodeRow(WeightType::kF16, values.data(), halves.data(), n);
  return halves;
}

float Largest(const float* p) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(p[i]));
  return largest;
}

TEST_P(MatmulF16Test, IsWithinTheRoundingOfItsBlocks) {
  for (int64_t k : {32, 64, 576, 2048}) {
    for (int64_t m : {1, 3, 4, 12, 17, 31}) {
      const int64_t n_rows = 1 + (m + k) % 37, ldy = n_rows + 3;
      const std::vector<uint8_t> halves = RandomHalves(n_rows * k, 1);
      std::vector<float> w(static_cast<size_t>(n_rows * k));
      DecodeRow(WeightType::kF16, halves.data(), w.data(), n_rows * k);
      const std::vector<float> x = RandomFloats(static_cast<size_t>(m * k), 2);
      const std::vector<float> y = Multiply(halves, x, m, n_rows, k, ldy);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < ldy; ++j) {
          double sum = j < n_rows ? 0 : 5, bound = 0;
          for (int64_t b = 0; b < k && j < n_rows; b += 32) {
            const float *wb = w.data() + j * k + b, *xb = x.data() + i * k + b;
            // Half a step of either, 1 / 2^13 of the block's largest at most, times what it is multiplied
            // with.
            const double step = 0x1p-13 * 0.5 * 1.01;
            for (int p = 0; p < 32; ++p) {
              sum += static_cast<double>(wb[p]) * xb[p];
              bound += step * (Largest(wb) * 2 * std::fabs(xb[p]) + Largest(xb) * std::fabs(wb[p]));
            }
          }
          ASSERT_NEAR(y[i * ldy + j], sum, bound)
              << "k " << k << ", m " << m << ", row " << i << ", column " << j;
        }
      }
    }
  }
}

TEST_P(MatmulF16Test, WeightsOfLikeSizeAreExact) {
  // Powers of two times small integers, with activations that are integers of 13 bits: nothing is rounded.
  const int64_t k = 64;
  std::vector<float> w(k), x(k);
  for (int64_t i = 0; i < k; ++i) {
    w[i] = static_cast<float>((i % 5 == 0 ? 1024 : 1 << (i % 3 + 8)) + i) / 4096;
    x[i] = static_cast<float>(i % 32 == 0 ? 8191 : 64 * i - 900);
  }
  std::vector<uint8_t> halves(k * 2);
  EncodeRow(WeightType::kF16, w.data(), halves.data(), k);
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(w[i]) * x[i];
  EXPECT_FLOAT_EQ(Multiply(halves, x, 1, 1, k, 1)[0], static_cast<float>(sum));
}

TEST_P(MatmulF16Test, AProductDoesNotDependOnTheOtherRows) {
  const int64_t k = 1536, n_rows = 19, m = 30;
  const std::vector<uint8_t> w = RandomHalves(n_rows * k, 1);
  const std::vector<float> x = RandomFloats(m * k, 2);
  std::vector<float> alone;
  for (int64_t i = 0; i < m; ++i) {
    const std::vector<float> row(x.begin() + i * k, x.begin() + (i + 1) * k);
    const std::vector<float> y = Multiply(w, row, 1, n_rows, k, n_rows);
    alone.insert(alone.end(), y.begin(), y.end());
  }
  EXPECT_EQ(Multiply(w, x, m, n_rows, k, n_rows), alone);
}

TEST_P(MatmulF16Test, WhatIsNotFiniteIsNotHidden) {
  const int64_t k = 64;
  std::vector<float> x = RandomFloats(2 * k, 3);
  x[k + 40] = std::numeric_limits<float>::infinity();
  std::vector<uint8_t> w = RandomHalves(2 * k, 4);
  w[2 * k + 7] = 0x7c;  // infinity, in the second row
  w[2 * k + 6] = 0;
  const std::vector<float> y = Multiply(w, x, 2, 2, k, 2);
  EXPECT_TRUE(std::isfinite(y[0]));
  EXPECT_TRUE(std::isnan(y[1]) && std::isnan(y[2]) && std::isnan(y[3]));
}

INSTANTIATE_TEST_SUITE_P(Tiers, MatmulF16Test, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/test_support.h"

namespace thimble {
namespace {

float FromBf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

class MatmulBf16Test : public KernelsTest {
 protected:
  void SetUp() override {
    if (kernels_.matmul_bf16 == nullptr) GTEST_SKIP() << kernels_.name << " has no BF16 product";
  }
  std::vector<uint16_t> Rounded(size_t n, uint32_t seed) const {
    const std::vector<float> x = RandomFloats(n, seed);
    std::vector<uint16_t> y(n);
    kernels_.round_activations(x.data(), y.data(), static_cast<int64_t>(n));
    return y;
  }
  std::vector<ActivationBlock> PackRows(const std::vector<uint16_t>& w, int64_t n_rows, int64_t k) const {
    return Pack(kernels_, WeightType::kBF16, n_rows, k, reinterpret_cast<const uint8_t*>(w.data()),
                static_cast<size_t>(k) * 2);
  }
};

TEST_P(MatmulBf16Test, RoundsToTheNearestEven) {
  const float values[] = {1.0f,    -2.5f, 0x1.01p0f,   0x1.03p0f, 0x1.0101p0f,
                          3.4e38f, 0.0f,  0x1.fffp10f, -1e-30f};
  const uint16_t expected[] = {0x3f80, 0xc020, 0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x0000, 0x4500, 0x8da2};
  uint16_t rounded[10];
  rounded[9] = 0x5555;
  kernels_.round_activations(values, rounded, 9);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(rounded[i], expected[i]) << values[i];
  EXPECT_EQ(rounded[9], 0x5555);
}

TEST_P(MatmulBf16Test, EqualsTheReferenceAtAwkwardSizes) {
  for (int64_t k : {2, 6, 64, 130, 1024, 1026, 3000}) {
    for (int64_t m : {1, 2, 5, 12, 13, 29}) {
      const int64_t n_rows = 1 + (m + k) % 37, ldy = n_rows + 3;
      const auto w = Rounded(static_cast<size_t>(n_rows * k), 1), x = Rounded(static_cast<size_t>(m * k), 2);
      const auto packed = PackRows(w, n_rows, k);
      std::vector<float> y(static_cast<size_t>(m * ldy), 5.0f);
      kernels_.matmul_bf16(m, n_rows, k, packed.data(), x.data(), k, y.data(), ldy);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < ldy; ++j) {
          double sum = j < n_rows ? 0 : 5, magnitude = 0;
          for (int64_t p = 0; p < k && j < n_rows; ++p) {
            const double product = static_cast<double>(FromBf16(w[j * k + p])) * FromBf16(x[i * k + p]);
            sum += product;
            magnitude += std::fabs(product);
          }
          // A rounding per pair of columns in each of two sums.
          ASSERT_NEAR(y[i * ldy + j], sum, magnitude * (static_cast<double>(k) / 4 + 4) * 0x1p-24)
              << "k " << k << ", m " << m << ", row " << i << ", column " << j;
        }
      }
    }
  }
}

TEST_P(MatmulBf16Test, AProductDoesNotDependOnTheOtherRows) {
  const int64_t k = 1500, n_rows = 19, m = 30;
  const auto packed = PackRows(Rounded(n_rows * k, 1), n_rows, k);
  const auto x = Rounded(m * k, 2);
  std::vector<float> together(m * n_rows), alone(m * n_rows);
  kernels_.matmul_bf16(m, n_rows, k, packed.data(), x.data(), k, together.data(), n_rows);
  for (int64_t i = 0; i < m; ++i) {
    kernels_.matmul_bf16(1, n_rows, k, packed.data(), x.data() + i * k, k, alone.data() + i * n_rows, n_rows);
  }
  EXPECT_EQ(together, alone);
}

INSTANTIATE_TEST_SUITE_P(Tiers, MatmulBf16Test, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

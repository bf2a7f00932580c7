#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/test_support.h"

namespace thimble {
namespace {

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
      kernels_.matmul_bf16(m, n_rows, k, packed.data(), x.data(), k, y.data(), ldy, false);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < ldy; ++j) {
          double sum = j < n_rows ? 0 : 5, magnitude = 0;
          for (int64_t p = 0; p < k && j < n_rows; ++p) {
            const double product = static_cast<double>(Bf16ToFloat(w[j * k + p])) * Bf16ToFloat(x[i * k + p]);
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
  kernels_.matmul_bf16(m, n_rows, k, packed.data(), x.data(), k, together.data(), n_rows, false);
  for (int64_t i = 0; i < m; ++i) {
    kernels_.matmul_bf16(1, n_rows, k, packed.data(), x.data() + i * k, k, alone.data() + i * n_rows, n_rows,
                         false);
  }
  EXPECT_EQ(together, alone);
}

TEST_P(MatmulBf16Test, AddsToWhatIsThere) {
  for (int64_t k : {64, 1026}) {
    const int64_t n_rows = 51, m = 45;
    const auto packed = PackRows(Rounded(static_cast<size_t>(n_rows * k), 1), n_rows, k);
    const auto x = Rounded(static_cast<size_t>(m * k), 2);
    std::vector<float> product(m * n_rows), sum(m * n_rows, 3.0f);
    kernels_.matmul_bf16(m, n_rows, k, packed.data(), x.data(), k, product.data(), n_rows, false);
    kernels_.matmul_bf16(m, n_rows, k, packed.data(), x.data(), k, sum.data(), n_rows, true);
    for (size_t i = 0; i < sum.size(); ++i)
      ASSERT_NEAR(sum[i], product[i] + 3, 1e-4) << "k " << k << ", " << i;
  }
}

TEST_P(MatmulBf16Test, PacksF32AsItsRoundedRows) {
  for (const auto& [n_columns, k] : {std::pair<int64_t, int64_t>{16, 70}, {37, 70}, {11, 46}, {19, 32}}) {
    SCOPED_TRACE(testing::Message() << n_columns << " columns of " << k);
    const std::vector<float> w = RandomFloats(static_cast<size_t>(k * n_columns), 3);
    std::vector<float> transposed(w.size());
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < n_columns; ++j) transposed[j * k + i] = w[i * n_columns + j];
    }
    std::vector<uint16_t> rounded(w.size());
    kernels_.round_activations(transposed.data(), rounded.data(), static_cast<int64_t>(w.size()));
    const auto expected = PackRows(rounded, n_columns, k);
    std::vector<ActivationBlock> by_rows(expected.size()),
        by_columns(expected.size());  // only the alignment matters
    const auto expect_equal = [&](const std::vector<ActivationBlock>& packed) {
      EXPECT_EQ(std::memcmp(packed.data(), expected.data(), packed.size() * sizeof(packed[0])), 0);
    };
    const size_t group_bytes = kernels_.packed_bytes[static_cast<int>(WeightType::kBF16)](k);
    for (int64_t j = 0; j < n_columns; j += kernels_.packed_rows) {
      kernels_.pack_rows_bf16(
          std::min<int64_t>(kernels_.packed_rows, n_columns - j), k, transposed.data() + j * k, k,
          reinterpret_cast<uint8_t*>(by_rows.data()) + j / kernels_.packed_rows * group_bytes);
    }
    expect_equal(by_rows);
    for (const auto& [first, n] : {std::pair<int64_t, int64_t>{0, 4}, {4, k - 4}}) {
      kernels_.pack_columns_bf16(first, n, n_columns, w.data() + first * n_columns, n_columns,
                                 by_columns.data(), group_bytes);
    }
    expect_equal(by_columns);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, MatmulBf16Test, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

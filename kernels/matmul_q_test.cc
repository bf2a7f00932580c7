#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "codec/codec.h"
#include "kernels/test_support.h"

namespace thimble {
namespace {

constexpr double kHalfUlp = 0x1p-24;  // of 1

const KernelTable& Ref() {
  return *FindKernels("ref");
}

// Where the F16 factors lie in a type's block.
std::vector<size_t> FactorOffsets(WeightType type) {
  switch (type) {
    case WeightType::kQ4_1:
    case WeightType::kQ5_1:
    case WeightType::kQ4_K:
    case WeightType::kQ5_K:
      return {0, 2};
    case WeightType::kQ2_K:
      return {80, 82};
    case WeightType::kQ3_K:
      return {108};
    case WeightType::kQ6_K:
      return {208};
    default:
      return {0};
  }
}

// Random bytes but for the factors, which are numbers of either sign from 2^-10 to 2^-3.
std::vector<uint8_t> RandomRow(const WeightTypeInfo& info, int64_t n, uint32_t seed) {
  std::vector<uint8_t> row = RandomBytes(RowBytes(info.type, n), seed);
  std::mt19937 random(~seed);
  for (size_t block = 0; block < row.size(); block += info.block_bytes) {
    for (size_t offset : FactorOffsets(info.type)) {
      const uint32_t exponent = 5 + random() % 7;
      const uint32_t half = (random() & 1) << 15 | exponent << 10 | (random() & 0x3ff);
      row[block + offset] = static_cast<uint8_t>(half);
      row[block + offset + 1] = static_cast<uint8_t>(half >> 8);
    }
  }
  return row;
}

std::vector<ActivationBlock> QuantizedRows(int64_t m, int64_t k, uint32_t seed) {
  const std::vector<float> x = RandomFloats(static_cast<size_t>(m * k), seed);
  std::vector<ActivationBlock> blocks(x.size() / 32);
  Ref().quantize_activations(x.data(), blocks.data(), m * k);
  return blocks;
}

// What the sizes of a row's products sum to. Twice a block's largest weight bounds scale * q and min.
double Magnitude(WeightType type, const uint8_t* row, int64_t k, const ActivationBlock* x) {
  std::vector<float> w(static_cast<size_t>(k));
  DecodeRow(type, row, w.data(), k);
  double sum = 0;
  for (int64_t b = 0; b < k / 32; ++b) {
    float largest = 0;
    for (int64_t i = 0; i < 32; ++i)
      largest = std::max(largest, std::fabs(w[static_cast<size_t>(b * 32 + i)]));
    for (int8_t q : x[b].q) sum += 2.0 * largest * std::abs(q) * x[b].scale;
  }
  return sum;
}

class MatmulQTest : public KernelsTest {
 protected:
  // Compares with the reference, within two roundings per block of 32 and a few at the end.
  void Check(const WeightTypeInfo& info, int64_t m, int64_t n_rows, int64_t k, size_t gap) {
    SCOPED_TRACE(testing::Message() << info.name << ", m: " << m << ", rows: " << n_rows << ", k: " << k);
    const size_t row_bytes = RowBytes(info.type, k), stride = row_bytes + gap;
    std::vector<uint8_t> rows;
    for (int64_t j = 0; j < n_rows; ++j) {
      if (j > 0) rows.resize(rows.size() + gap, 0xff);
      const std::vector<uint8_t> row = RandomRow(info, k, static_cast<uint32_t>(k + j));
      rows.insert(rows.end(), row.begin(), row.end());
    }
    const BytesBeforeAGap w(rows);
    const std::vector<ActivationBlock> x = QuantizedRows(m, k, static_cast<uint32_t>(m));
    const int64_t ldy = n_rows + 3;
    std::vector<float> expected(static_cast<size_t>(m * ldy), 5.0f), y = expected;
    const auto multiply = [&](const KernelTable& kernels, std::vector<float>& out) {
      const std::vector<ActivationBlock> packed = Pack(kernels, info.type, n_rows, k, w.data(), stride);
      kernels.matmul_q[static_cast<size_t>(info.type)](m, n_rows, k, packed.data(), x.data(), k / 32,
                                                       out.data(), ldy);
    };
    multiply(Ref(), expected);
    multiply(kernels_, y);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < ldy; ++j) {
        const size_t at = static_cast<size_t>(i * ldy + j);
        double bound = 0;
        if (j < n_rows) {
          const double magnitude =
              Magnitude(info.type, w.data() + static_cast<size_t>(j) * stride, k, x.data() + i * k / 32);
          bound = (static_cast<double>(k) / 16 + 4) * kHalfUlp * magnitude;
        }
        ASSERT_NEAR(y[at], expected[at], bound) << "row " << i << ", column " << j;
      }
    }
  }
};

TEST_P(MatmulQTest, EveryTypeHasOne) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    EXPECT_EQ(kernels_.matmul_q[static_cast<size_t>(info.type)] != nullptr, info.quantized) << info.name;
  }
}

TEST_P(MatmulQTest, AnyNumberOfRows) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.quantized) continue;
    const int64_t k = RowStep(info) == 32 ? 288 : 512;
    for (int64_t m = 1; m <= 37; ++m) Check(info, m, 1 + m % 6, k, 0);
    for (int64_t n_rows = 1; n_rows <= 33; ++n_rows) Check(info, 1, n_rows, k, 6);
  }
}

TEST_P(MatmulQTest, AnyNumberOfBlocks) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.quantized) continue;
    for (int64_t steps : {1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 18, 96, 97, 99, 100, 101, 193, 195}) {
      Check(info, 1, 5, steps * RowStep(info), 2);
      Check(info, 18, 2, steps * RowStep(info), 2);
    }
  }
}

TEST_P(MatmulQTest, AProductDoesNotDependOnTheOtherRows) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.quantized) continue;
    const int64_t k = 12 * 256 + RowStep(info), n_rows = 19, m = 31;
    std::vector<uint8_t> w;
    for (uint32_t j = 0; j < n_rows; ++j) {
      const std::vector<uint8_t> row = RandomRow(info, k, j);
      w.insert(w.end(), row.begin(), row.end());
    }
    const std::vector<ActivationBlock> x = QuantizedRows(m, k, 5);
    const auto packed = Pack(kernels_, info.type, n_rows, k, w.data(), RowBytes(info.type, k));
    std::vector<float> together(m * n_rows), alone(m * n_rows);
    const auto matmul = kernels_.matmul_q[static_cast<size_t>(info.type)];
    matmul(m, n_rows, k, packed.data(), x.data(), k / 32, together.data(), n_rows);
    for (int64_t begin = 0, rows = 1; begin < m; begin += rows, rows = rows % 7 + 1) {
      matmul(std::min(rows, m - begin), n_rows, k, packed.data(), x.data() + begin * k / 32, k / 32,
             alone.data() + begin * n_rows, n_rows);
    }
    EXPECT_EQ(together, alone) << info.name;
  }
}

TEST_P(MatmulQTest, TiersAgreeToTheBit) {
  const std::vector<const KernelTable*> tiers = AllTiers();
  if (&kernels_ == &Ref() || tiers.size() < 2) GTEST_SKIP() << "the reference adds up in double precision";
  const KernelTable& lowest = *tiers[tiers.size() - 2];
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.quantized) continue;
    const int64_t k = 512 + RowStep(info), n_rows = 21, m = 13;
    std::vector<uint8_t> w;
    for (uint32_t j = 0; j < n_rows; ++j) {
      const std::vector<uint8_t> row = RandomRow(info, k, j);
      w.insert(w.end(), row.begin(), row.end());
    }
    const std::vector<ActivationBlock> x = QuantizedRows(m, k, 6);
    std::vector<float> y[2];
    for (int i = 0; i < 2; ++i) {
      const KernelTable& kernels = i == 0 ? lowest : kernels_;
      const auto packed = Pack(kernels, info.type, n_rows, k, w.data(), RowBytes(info.type, k));
      y[i].resize(m * n_rows);
      kernels.matmul_q[static_cast<size_t>(info.type)](m, n_rows, k, packed.data(), x.data(), k / 32,
                                                       y[i].data(), n_rows);
    }
    EXPECT_EQ(y[0], y[1]) << info.name;
  }
}

TEST_P(MatmulQTest, NanIsNotHidden) {
  std::vector<float> x = RandomFloats(2 * 576, 1);
  x[600] = std::numeric_limits<float>::infinity();
  std::vector<ActivationBlock> blocks(x.size() / 32);
  kernels_.quantize_activations(x.data(), blocks.data(), 2 * 576);
  const std::vector<uint8_t> w = RandomRow(Info(WeightType::kQ4_0), 576, 2);
  float y[2];
  const auto packed = Pack(kernels_, WeightType::kQ4_0, 1, 576, w.data(), w.size());
  kernels_.matmul_q[static_cast<size_t>(WeightType::kQ4_0)](2, 1, 576, packed.data(), blocks.data(), 18, y,
                                                            1);
  EXPECT_TRUE(std::isfinite(y[0]));
  EXPECT_TRUE(std::isnan(y[1]));
}

TEST_P(MatmulQTest, QuantizesActivationsAsTheReferenceDoes) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x;
  const auto add = [&x](uint32_t seed, float scale) {
    const std::vector<float> block = RandomFloats(32, seed, scale);
    x.insert(x.end(), block.begin(), block.end());
  };
  for (uint32_t seed = 0; seed < 200; ++seed) add(seed, 1.0f);
  // Ties: multiples of a half of the scale.
  for (int i = 0; i < 32; ++i) x.push_back(i == 0 ? 127.0f : static_cast<float>(i) - 16.5f);
  for (float scale : {0.0f, 1e-42f, 1e-38f, 1e-31f, 1e-30f, 3e-30f, 1e-10f, 1e30f}) add(300, scale);
  x.insert(x.end(), 32, FLT_MAX);
  x.insert(x.end(), 32, -FLT_MIN);
  x.insert(x.end(), 32, -0.0f);
  for (float value : {nan, -nan, infinity, -infinity}) {
    for (size_t at : {0, 15, 16, 31}) {
      add(400, 1.0f);
      x[x.size() - 32 + at] = value;
    }
  }
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<ActivationBlock> expected(x.size() / 32), blocks(x.size() / 32 + 1);
  std::memset(&blocks.back(), 0x55, sizeof(ActivationBlock));
  Ref().quantize_activations(x.data(), expected.data(), n);
  kernels_.quantize_activations(x.data(), blocks.data(), n);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(std::memcmp(&blocks[i], &expected[i], sizeof(ActivationBlock)), 0) << "block " << i;
  }
  EXPECT_EQ(blocks.back().q[31], 0x55);
}

INSTANTIATE_TEST_SUITE_P(Tiers, MatmulQTest, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

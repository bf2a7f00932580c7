#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/codec.h"
#include "kernels/test_support.h"

namespace thimble {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr WeightType kCacheTypes[] = {WeightType::kF32, WeightType::kF16, WeightType::kQ8_0,
                                      WeightType::kQ4_0};

class AttentionKernelsTest : public KernelsTest {
 protected:
  std::vector<uint8_t> Encode(WeightType type, const std::vector<float>& x) const {
    const int64_t n = static_cast<int64_t>(x.size());
    std::vector<uint8_t> row(RowBytes(type, n) + 1, 0xab);
    kernels_.encode_row[static_cast<size_t>(type)](x.data(), row.data(), n);
    EXPECT_EQ(row.back(), 0xab) << "wrote behind the row";
    row.pop_back();
    return row;
  }
  std::vector<float> RoundTrip(WeightType type, const std::vector<float>& x) const {
    std::vector<float> y(x.size());
    DecodeRow(type, Encode(type, x).data(), y.data(), static_cast<int64_t>(x.size()));
    return y;
  }
};

TEST_P(AttentionKernelsTest, OnlyTheCachesTypes) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    const bool expected =
        std::find(std::begin(kCacheTypes), std::end(kCacheTypes), info.type) != std::end(kCacheTypes);
    EXPECT_EQ(kernels_.encode_row[static_cast<size_t>(info.type)] != nullptr, expected) << info.name;
    EXPECT_EQ(kernels_.decode_keys[static_cast<size_t>(info.type)] != nullptr, expected) << info.name;
  }
}

// A row comes back within half a step; every tier writes the same bytes.
TEST_P(AttentionKernelsTest, EncodesWithinHalfAStep) {
  const KernelTable& ref = *FindKernels("ref");
  for (const float scale : {1.0f, 1e-3f, 300.0f}) {
    for (const int64_t n : {32, 64, 96, 256, 1056}) {
      const std::vector<float> x = RandomFloats(static_cast<size_t>(n), 1, scale);
      EXPECT_EQ(RoundTrip(WeightType::kF32, x), x);
      const std::vector<float> f16 = RoundTrip(WeightType::kF16, x), q8 = RoundTrip(WeightType::kQ8_0, x),
                               q4 = RoundTrip(WeightType::kQ4_0, x);
      for (size_t i = 0; i < x.size(); ++i) {
        float largest = 0;
        for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) largest = std::max(largest, std::fabs(x[j]));
        EXPECT_LE(std::fabs(f16[i] - x[i]), std::fabs(x[i]) * 0x1p-11f + 0x1p-25f);
        // Half a step, and the scale's own rounding to F16. At the end of Q4_0 without a -8, up to a whole
        // step.
        EXPECT_LE(std::fabs(q8[i] - x[i]), largest * (0.5f / 127 + 0x1p-11f) + 0x1p-18f);
        EXPECT_LE(std::fabs(q4[i] - x[i]), largest * (1.0f / 8 + 0x1p-11f) + 0x1p-21f);
      }
      for (const WeightType type : kCacheTypes) {
        std::vector<uint8_t> expected(RowBytes(type, n));
        ref.encode_row[static_cast<size_t>(type)](x.data(), expected.data(), n);
        EXPECT_EQ(Encode(type, x), expected) << Name(type) << ", " << n;
      }
    }
  }
}

TEST_P(AttentionKernelsTest, EncodesF16OfAnyLength) {
  for (const int64_t n : {1, 3, 7, 17, 31}) {
    const std::vector<float> x = RandomFloats(static_cast<size_t>(n), 1);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(RoundTrip(WeightType::kF16, x)[i], x[i], 4 * 0x1p-11);
  }
}

TEST_P(AttentionKernelsTest, EncodesExtremes) {
  std::vector<float> x(64, 0.0f);
  for (const WeightType type : kCacheTypes) EXPECT_EQ(RoundTrip(type, x), x) << Name(type);
  x[3] = 1e-30f, x[40] = -1e-30f;  // no scale in F16
  EXPECT_EQ(RoundTrip(WeightType::kQ8_0, x), std::vector<float>(64, 0.0f));
  EXPECT_EQ(RoundTrip(WeightType::kQ4_0, x), std::vector<float>(64, 0.0f));
  x[3] = 1e6f, x[40] = -1e6f;  // beyond F16 and Q4_0, not beyond Q8_0
  EXPECT_EQ(RoundTrip(WeightType::kF16, x)[3], 65504.0f);
  EXPECT_EQ(RoundTrip(WeightType::kF16, x)[40], -65504.0f);
  EXPECT_NEAR(RoundTrip(WeightType::kQ8_0, x)[3], 1e6f, 1e3f);
  EXPECT_EQ(RoundTrip(WeightType::kQ4_0, x)[40], -8 * 65504.0f);
  // The end of Q4_0 that has no opposite goes to the largest number, of either sign.
  x[3] = 8, x[4] = -7, x[40] = -8, x[41] = 7;
  EXPECT_EQ(RoundTrip(WeightType::kQ4_0, x), x);
  x[5] = std::numeric_limits<float>::quiet_NaN();
  for (const WeightType type : kCacheTypes) {
    EXPECT_TRUE(std::isnan(RoundTrip(type, x)[5])) << Name(type);
    EXPECT_NEAR(RoundTrip(type, x)[40], -8, 0.001) << Name(type);  // another block
  }
}

// Rows, as they are encoded, laid out as kernels.h says.
TEST_P(AttentionKernelsTest, DecodesKeys) {
  for (const int64_t head_dim : {32, 64, 96, 256}) {
    for (const WeightType type : kCacheTypes) {
      SCOPED_TRACE(testing::Message() << Name(type) << ", " << head_dim);
      const WeightTypeInfo& info = Info(type);
      const size_t size = RowBytes(type, head_dim);
      // Each field of a row: its bytes, one after another; quantized rows are a scale and bytes of codes.
      std::vector<size_t> fields;
      for (size_t at = 0; at < size;) {
        const size_t field = !info.quantized ? info.block_bytes : at % info.block_bytes == 0 ? 2 : 1;
        fields.push_back(field);
        at += field;
      }
      std::vector<uint8_t> block(size * kKeyBlock);
      std::vector<float> expected(static_cast<size_t>(head_dim) * kKeyBlock),
          row(static_cast<size_t>(head_dim));
      for (size_t j = 0; j < kKeyBlock; ++j) {
        const auto encoded =
            Encode(type, RandomFloats(static_cast<size_t>(head_dim), static_cast<uint32_t>(j) + 1));
        DecodeRow(type, encoded.data(), row.data(), head_dim);
        for (size_t p = 0; p < row.size(); ++p) expected[p * kKeyBlock + j] = row[p];
        size_t at = 0;
        for (const size_t field : fields) {
          std::memcpy(block.data() + at * kKeyBlock + j * field, encoded.data() + at, field);
          at += field;
        }
      }
      std::vector<float> decoded(expected.size() + 1, 9.0f);
      kernels_.decode_keys[static_cast<size_t>(type)](block.data(), decoded.data(), head_dim);
      EXPECT_EQ(decoded.back(), 9.0f);
      decoded.pop_back();
      EXPECT_EQ(decoded, expected);
    }
  }
}

// Steps over blocks against one softmax in double precision; out gathers p_j * (j + i).
TEST_P(AttentionKernelsTest, StepsOfASoftmaxAddUp) {
  constexpr int64_t kRows = 5, kBlocks = 4, kOut = 19;
  const VisibleKeys visible[kBlocks][kRows] = {{{0, 64}, {63, 64}, {0, 0}, {17, 40}, {0, 64}},
                                               {{0, 64}, {0, 64}, {0, 0}, {0, 0}, {0, 64}},
                                               {{0, 64}, {0, 64}, {3, 4}, {0, 64}, {0, 64}},
                                               {{0, 1}, {0, 31}, {0, 16}, {0, 0}, {0, 64}}};
  const std::vector<float> all = RandomFloats(kRows * kBlocks * kKeyBlock, 1, 6.0f);
  std::vector<float> max(kRows, -kInfinity), sum(kRows, 0.0f), out(kRows * kOut + 1, 0.0f);
  out.back() = 7.0f;
  for (size_t b = 0; b < kBlocks; ++b) {
    std::vector<float> scores(kRows * kKeyBlock, std::numeric_limits<float>::quiet_NaN());
    for (size_t r = 0; r < kRows; ++r) {
      for (int j = visible[b][r].begin; j < visible[b][r].end; ++j) {
        const size_t at = r * kKeyBlock + static_cast<size_t>(j);
        scores[at] = r == 4 && b < 2 ? -kInfinity : all[b * kRows * kKeyBlock + at];
      }
    }
    kernels_.softmax_step(kRows, scores.data(), visible[b], max.data(), sum.data(), out.data(), kOut);
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t j = 0; j < kKeyBlock; ++j) {
        for (size_t i = 0; i < kOut; ++i)
          out[r * kOut + i] += scores[r * kKeyBlock + j] * static_cast<float>(j + i);
      }
    }
  }
  EXPECT_EQ(out.back(), 7.0f);
  for (size_t r = 0; r < kRows; ++r) {
    double highest = -kInfinity, total = 0;
    std::vector<double> expected(kOut);
    const auto visit = [&](const auto& use) {
      for (size_t b = r == 4 ? 2 : 0; b < kBlocks; ++b) {
        for (int j = visible[b][r].begin; j < visible[b][r].end; ++j) {
          use(static_cast<double>(all[(b * kRows + r) * kKeyBlock + static_cast<size_t>(j)]), j);
        }
      }
    };
    visit([&](double s, int) { highest = std::max(highest, s); });
    visit([&](double s, int j) {
      const double e = std::exp(s - highest);
      total += e;
      for (size_t i = 0; i < kOut; ++i) expected[i] += e * static_cast<double>(static_cast<size_t>(j) + i);
    });
    EXPECT_EQ(max[r], static_cast<float>(highest)) << r;
    EXPECT_NEAR(sum[r], total, 1e-5 * total) << r;
    for (size_t i = 0; i < kOut; ++i) EXPECT_NEAR(out[r * kOut + i], expected[i], 2e-5 * expected[i]) << r;
  }
}

TEST_P(AttentionKernelsTest, NothingSeenChangesNothing) {
  std::vector<float> scores(2 * kKeyBlock, std::numeric_limits<float>::quiet_NaN()), max{2.0f, -kInfinity},
      sum{3.0f, 0.0f}, out{1, 2, 3, 4};
  std::fill(scores.begin(), scores.begin() + kKeyBlock, -kInfinity);
  const VisibleKeys visible[2] = {{0, 64}, {5, 5}};
  kernels_.softmax_step(2, scores.data(), visible, max.data(), sum.data(), out.data(), 2);
  EXPECT_EQ(scores, std::vector<float>(2 * kKeyBlock, 0.0f));
  EXPECT_EQ(max, (std::vector<float>{2.0f, -kInfinity}));
  EXPECT_EQ(sum, (std::vector<float>{3.0f, 0.0f}));
  EXPECT_EQ(out, (std::vector<float>{1, 2, 3, 4}));
}

TEST_P(AttentionKernelsTest, NanIsNotHidden) {
  // Among other keys, and where all the others are unseen.
  for (const auto& [at, visible] : {std::pair(20, VisibleKeys{0, 64}), std::pair(0, VisibleKeys{0, 1})}) {
    std::vector<float> scores(kKeyBlock, 1.0f);
    scores[static_cast<size_t>(at)] = std::numeric_limits<float>::quiet_NaN();
    float max = -kInfinity, sum = 0, out = 0;
    kernels_.softmax_step(1, scores.data(), &visible, &max, &sum, &out, 1);
    EXPECT_TRUE(std::isnan(sum)) << at;
  }
}

// With more rows than lanes, a row comes out as it does alone.
TEST_P(AttentionKernelsTest, RowsOfAStepDoNotDependOnEachOther) {
  constexpr int64_t kRows = 37, kOut = 7;
  const std::vector<float> scores = RandomFloats(kRows * kKeyBlock, 1, 6.0f);
  std::vector<float> steps = scores, max = RandomFloats(kRows, 2, 6.0f), sum(kRows, 2.0f),
                     out = RandomFloats(kRows * kOut, 3);
  std::vector<VisibleKeys> visible(kRows);
  for (int i = 0; i < kRows; ++i) visible[static_cast<size_t>(i)] = {i % 5 == 4 ? i : 0, i % 3 == 2 ? 64 : i};
  std::vector<float> one = scores, one_max = max, one_sum = sum, one_out = out;
  kernels_.softmax_step(kRows, steps.data(), visible.data(), max.data(), sum.data(), out.data(), kOut);
  for (size_t i = 0; i < kRows; ++i) {
    kernels_.softmax_step(1, &one[i * kKeyBlock], &visible[i], &one_max[i], &one_sum[i], &one_out[i * kOut],
                          kOut);
  }
  EXPECT_EQ(steps, one);
  EXPECT_EQ(max, one_max);
  EXPECT_EQ(sum, one_sum);
  EXPECT_EQ(out, one_out);
}

TEST_P(AttentionKernelsTest, GradientOfASoftmax) {
  constexpr int64_t kRows = 7, kSize = kRows * kKeyBlock;
  const VisibleKeys visible[kRows] = {{0, 64}, {63, 64}, {0, 0}, {17, 40}, {0, 64}, {0, 1}, {0, 64}};
  std::vector<float> scores = RandomFloats(kSize, 1, 6.0f), dscores = RandomFloats(kSize, 2),
                     log_sums(kRows, 7.0f), sums = RandomFloats(kRows, 3);
  log_sums[4] = -kInfinity;
  scores[6 * kKeyBlock] = -kInfinity;
  scores[6 * kKeyBlock + 1] = -1e3f;
  for (size_t r = 0; r < kRows; ++r) {
    for (int j = 0; j < kKeyBlock; ++j) {
      if (j >= visible[r].begin && j < visible[r].end) continue;
      const size_t at = r * kKeyBlock + static_cast<size_t>(j);
      scores[at] = dscores[at] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  std::vector<float> expected = scores, dexpected = dscores;
  FindKernels("ref")->softmax_gradient(kRows, expected.data(), dexpected.data(), visible, log_sums.data(),
                                       sums.data());
  kernels_.softmax_gradient(kRows, scores.data(), dscores.data(), visible, log_sums.data(), sums.data());
  for (size_t i = 0; i < kSize; ++i) {
    EXPECT_NEAR(scores[i], expected[i], 1e-6f * expected[i]) << i;
    EXPECT_NEAR(dscores[i], dexpected[i], 3e-6f * expected[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, AttentionKernelsTest, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

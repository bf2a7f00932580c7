#include <cmath>

#include "codec/codec.h"
#include "kernels/test_support.h"

namespace thimble {
namespace {

class DecodeTest : public KernelsTest {};

TEST_P(DecodeTest, EveryTypeEqualsTheCodecToTheBit) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    const auto decode = kernels_.decode_row[static_cast<size_t>(info.type)];
    ASSERT_EQ(decode != nullptr, info.decodable) << info.name;
    if (!info.decodable) continue;
    for (int64_t steps : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 18, 19, 33, 257}) {
      const int64_t n = steps * RowStep(info);
      SCOPED_TRACE(testing::Message() << info.name << ", n: " << n);
      // Random scales include denormals, infinities and NaN.
      const BytesBeforeAGap row(RandomBytes(RowBytes(info.type, n), static_cast<uint32_t>(steps) + 1));
      std::vector<float> expected(static_cast<size_t>(n)), decoded(static_cast<size_t>(n) + 1, 7.0f);
      DecodeRow(info.type, row.data(), expected.data(), n);
      decode(row.data(), decoded.data(), n);
      EXPECT_EQ(decoded.back(), 7.0f);
      for (size_t i = 0; i < expected.size(); ++i) {
        if (std::isnan(expected[i]) && std::isnan(decoded[i])) continue;
        ASSERT_EQ(std::memcmp(&decoded[i], &expected[i], sizeof(float)), 0)
            << "weight " << i << ": " << decoded[i] << " instead of " << expected[i];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, DecodeTest, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

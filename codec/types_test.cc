#include "codec/types.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

TEST(TypesTest, NamesAndNumbersLeadBackToTheType) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    EXPECT_EQ(FindWeightType(static_cast<uint32_t>(info.type)), &info);
    EXPECT_EQ(ParseWeightType(info.name), info.type);
  }
  EXPECT_EQ(ParseWeightType("q4_k"), WeightType::kQ4_K);
  EXPECT_EQ(ParseWeightType("int8"), WeightType::kQ8_0);
  EXPECT_EQ(ParseWeightType("Q4"), std::nullopt);
  EXPECT_EQ(FindWeightType(4), nullptr);  // Q4_2, withdrawn from GGUF
}

TEST(TypesTest, RowBytes) {
  EXPECT_EQ(RowBytes(WeightType::kQ4_K, 512), 288u);
  EXPECT_EQ(RowBytes(WeightType::kQ8_0, 0), 0u);
  EXPECT_EQ(RowBytes(WeightType::kT3, 128), 50u);
  EXPECT_EQ(RowBytes(WeightType::kT3, 96), 38u);  // ends in half a block
  EXPECT_TRUE(RowFits(WeightType::kT3, 32));
  EXPECT_FALSE(RowFits(WeightType::kT3, 48));
  EXPECT_DEATH(RowBytes(WeightType::kQ4_K, 32), "RowFits");
}

}  // namespace
}  // namespace thimble

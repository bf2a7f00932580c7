#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/half.h"
#include "codec/codec.h"
#include "codec/test_support.h"

namespace thimble {
namespace {

class DecodeTest : public testing::TestWithParam<WeightType> {};

// tests/golden/codec (tools/make_codec_goldens.py): random blocks, then what gguf-py makes of them, or of
// native types tools/native_types.py.
TEST_P(DecodeTest, EqualsTheReferenceToTheBit) {
  const WeightTypeInfo& info = Info(GetParam());
  if (info.type == WeightType::kF32) GTEST_SKIP() << "F32 is its own golden";
  const auto golden = ReadFile(std::string(THIMBLE_SOURCE_DIR) + "/tests/golden/codec/" + info.name + ".bin");
  ASSERT_TRUE(golden.has_value()) << golden.error().message;
  const size_t n_blocks =
      golden->size() / (info.block_bytes + sizeof(float) * static_cast<size_t>(info.block_size));
  const int64_t n = static_cast<int64_t>(n_blocks) * info.block_size;
  ASSERT_GE(n, 2048);
  std::vector<float> expected(static_cast<size_t>(n)), decoded(static_cast<size_t>(n));
  memcpy(expected.data(), golden->data() + n_blocks * info.block_bytes, expected.size() * sizeof(float));
  DecodeRow(info.type, golden->data(), decoded.data(), n);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(FloatBits(decoded[i]), FloatBits(expected[i])) << "weight " << i;
  }
}

TEST_P(DecodeTest, ReadsUnalignedRows) {
  const WeightTypeInfo& info = Info(GetParam());
  const std::vector<float> x = GaussianWeights(512, 1);
  const std::vector<uint8_t> row = Encode(info.type, x);
  std::vector<uint8_t> shifted(row.size() + 1);
  memcpy(shifted.data() + 1, row.data(), row.size());
  std::vector<float> decoded(x.size());
  DecodeRow(info.type, shifted.data() + 1, decoded.data(), 512);
  EXPECT_EQ(decoded, Decode(info.type, row, 512));

  std::vector<uint8_t> encoded(row.size() + 1);
  EncodeRow(info.type, x.data(), encoded.data() + 1, 512);
  EXPECT_TRUE(std::equal(row.begin(), row.end(), encoded.begin() + 1));
}

TEST_P(DecodeTest, EmptyRow) {
  DecodeRow(GetParam(), nullptr, nullptr, 0);
  EncodeRow(GetParam(), nullptr, nullptr, 0);
}

INSTANTIATE_TEST_SUITE_P(Types, DecodeTest, testing::ValuesIn(DecodableTypes()), TypeName);

}  // namespace
}  // namespace thimble

#include "formats/gguf.h"

#include <cstring>

#include "formats/gguf_lora.h"
#include "formats/test_support.h"

namespace thimble {
namespace {

std::span<const uint8_t> Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

Metadata EveryType() {
  Metadata metadata;
  metadata.Set("general.architecture", MetadataValue(std::string("llama")));
  metadata.Set("u8", MetadataValue(uint8_t{200}));
  metadata.Set("i8", MetadataValue(int8_t{-100}));
  metadata.Set("u16", MetadataValue(uint16_t{60000}));
  metadata.Set("i16", MetadataValue(int16_t{-30000}));
  metadata.Set("u32", MetadataValue(uint32_t{4000000000u}));
  metadata.Set("i32", MetadataValue(int32_t{-2000000000}));
  metadata.Set("f32", MetadataValue(1.5f));
  metadata.Set("bool", MetadataValue(true));
  metadata.Set("u64", MetadataValue(uint64_t{1} << 63));
  metadata.Set("i64", MetadataValue(-(int64_t{1} << 62)));
  metadata.Set("f64", MetadataValue(0.1));
  metadata.Set("strings", MetadataValue(std::vector<std::string>{"", "a\nb", "\xed\x95\x9c"}));
  metadata.Set("ints", MetadataValue(std::vector<int32_t>{1, -2, 3}));
  metadata.Set("floats", MetadataValue(std::vector<float>{0.5f}));
  metadata.Set("bools", MetadataValue(std::vector<bool>{true, false, true}));
  return metadata;
}

class GgufTest : public FormatsTest {
 protected:
  // Two tensors of 6 and 64 floats (as F32 and as two Q8_0 blocks of zeros), and every type of metadata.
  std::string WriteSmall() {
    const std::string path = Path("small.gguf");
    auto writer = GgufWriter::Create(path, EveryType(),
                                     {{"matrix", WeightType::kF32, {2, 3}},
                                      {"blocks", WeightType::kQ8_0, {1, 64}},
                                      {"scalar", WeightType::kF32, {}}});
    EXPECT_TRUE(writer) << writer.error().message;
    const std::span<const uint8_t> matrix = Bytes(matrix_);
    EXPECT_TRUE(writer->Write(matrix.subspan(0, 10)));  // in two pieces
    EXPECT_TRUE(writer->Write(matrix.subspan(10)));
    EXPECT_TRUE(writer->Write(std::vector<uint8_t>(68, 7)));
    EXPECT_TRUE(writer->Write(Bytes({42})));
    EXPECT_TRUE(writer->Finish());
    return path;
  }
  const std::vector<float> matrix_ = {1, 2, 3, 4, 5, 6};
};

TEST_F(GgufTest, RoundTripKeepsMetadataAndTensors) {
  const std::string path = WriteSmall();
  const auto file = ReadGguf(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->version, 3u);
  EXPECT_EQ(file->alignment, 32u);
  const Metadata expected = EveryType();
  ASSERT_EQ(file->metadata.entries().size(), expected.entries().size());
  for (size_t i = 0; i < expected.entries().size(); ++i) {
    EXPECT_EQ(file->metadata.entries()[i].first, expected.entries()[i].first);
    EXPECT_EQ(file->metadata.entries()[i].second.storage(), expected.entries()[i].second.storage());
  }
  ASSERT_EQ(file->tensors.size(), 3u);
  const TensorInfo* matrix = file->tensors.Find("matrix");
  ASSERT_TRUE(matrix);
  EXPECT_EQ(matrix->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(matrix->bytes.data(), matrix_.data(), 24), 0);
  EXPECT_EQ(file->tensors.Find("blocks")->bytes.size(), 68u);
  EXPECT_EQ(file->tensors.Find("scalar")->n_elements(), 1);
}

TEST_F(GgufTest, MetadataConversionsAreExact) {
  const Metadata metadata = EveryType();
  EXPECT_EQ(metadata.Int("u8"), 200);
  EXPECT_EQ(metadata.Int("i64"), -(int64_t{1} << 62));
  EXPECT_EQ(metadata.Int("u64"), std::nullopt);  // does not fit
  EXPECT_EQ(metadata.Int("f32"), std::nullopt);
  EXPECT_EQ(metadata.Int("bool"), std::nullopt);
  EXPECT_EQ(metadata.Float("i8"), -100.0);
  EXPECT_EQ(metadata.Bool("u8"), std::nullopt);
  EXPECT_EQ(metadata.Ints("ints"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(metadata.Floats("ints"), (std::vector<float>{1, -2, 3}));
  EXPECT_EQ(metadata.Ints("floats"), std::nullopt);
  EXPECT_EQ(metadata.Strings("strings")->size(), 3u);
  EXPECT_EQ(metadata.Find("strings")->ToString(), "[3 x string] , a\\nb, \xed\x95\x9c");
  EXPECT_EQ(metadata.Find("bools")->ToString(), "[3 x bool] true, false, true");
}

TEST_F(GgufTest, RemoveKeepsTheOtherKeysFindable) {
  Metadata metadata = EveryType();
  metadata.Remove("u8");
  EXPECT_FALSE(metadata.Has("u8"));
  EXPECT_EQ(metadata.Int("i8"), -100);
  EXPECT_EQ(metadata.Float("f64"), 0.1);
}

TEST_F(GgufTest, HonoursAlignment) {
  Metadata metadata;
  metadata.Set("general.alignment", MetadataValue(uint32_t{256}));
  auto writer = GgufWriter::Create(Path("a.gguf"), metadata,
                                   {{"a", WeightType::kF32, {1}}, {"b", WeightType::kF32, {1}}});
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->Write(Bytes({1})));
  ASSERT_TRUE(writer->Write(Bytes({2})));
  ASSERT_TRUE(writer->Finish());
  const auto file = ReadGguf(Path("a.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->data_offset % 256, 0u);
  EXPECT_EQ(file->tensors.Find("b")->bytes.data() - file->tensors.Find("a")->bytes.data(), 256);
  float b = 0;
  std::memcpy(&b, file->tensors.Find("b")->bytes.data(), 4);
  EXPECT_EQ(b, 2);
}

TEST_F(GgufTest, RowsMayEndInHalfABlock) {
  auto writer = GgufWriter::Create(Path("a.gguf"), {}, {{"a", WeightType::kT2, {2, 96}}});
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->Write(std::vector<uint8_t>(2 * (17 + 9), 7)));
  ASSERT_TRUE(writer->Finish());
  const auto file = ReadGguf(Path("a.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors.Find("a")->bytes.size(), 52u);
}

TEST_F(GgufTest, WriterRefusesWhatReadersWould) {
  const auto create = [&](GgufWriter::Declaration tensor) {
    return GgufWriter::Create(Path("x.gguf"), {}, {std::move(tensor)});
  };
  EXPECT_FALSE(create({std::string(64, 'n'), WeightType::kF32, {1}}));
  EXPECT_TRUE(create({std::string(63, 'n'), WeightType::kF32, {1}}));
  EXPECT_FALSE(create({"five", WeightType::kF32, {1, 1, 1, 1, 1}}));
  EXPECT_FALSE(create({"rows", WeightType::kQ4_0, {2, 33}}));
  EXPECT_FALSE(create({"rows", WeightType::kT2, {2, 48}}));
  EXPECT_FALSE(create({"empty", WeightType::kF32, {0, 3}}));
}

TEST_F(GgufTest, UnfinishedFileLeavesTheOldOne) {
  const std::string path = WriteSmall();
  const std::string before = *ReadFile(path);
  {
    auto writer = GgufWriter::Create(path, {}, {{"a", WeightType::kF32, {4}}});
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->Write(Bytes({1})));
  }
  EXPECT_EQ(*ReadFile(path), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);  // no temporary file left
}

TEST_F(GgufTest, EveryTruncationIsAnErrorThatNamesTheFileAndThePlace) {
  const std::string path = WriteSmall();
  const std::string whole = *ReadFile(path);
  // The last tensor is 4 bytes and 28 of padding, which a reader does without.
  const std::string needed = whole.substr(0, whole.size() - 28);
  ForEachTruncation(path, needed, [&](size_t size) {
    const auto file = ReadGguf(path);
    ASSERT_FALSE(file) << "cut after " << size;
    ExpectNamesFile(file.error(), path);
    if (size > 0) {
      EXPECT_NE(file.error().message.find("byte"), std::string::npos) << file.error().message;
    }
  });
  Overwrite(path, needed);
  EXPECT_TRUE(ReadGguf(path));
}

TEST_F(GgufTest, RandomCorruptionsAreErrorsOrNormalLoads) {
  const std::string path = WriteSmall();
  int loads = 0, errors = 0;
  ForEachCorruption(path, *ReadFile(path), 10000, [&] {
    const auto file = ReadGguf(path);
    if (!file) {
      ++errors;
      return ExpectNamesFile(file.error(), path);
    }
    ++loads;
    unsigned sum = 0;
    for (const TensorInfo& tensor : file->tensors) {  // every byte that is promised can be read
      for (const uint8_t byte : tensor.bytes) sum += byte;
    }
    for (const auto& [key, value] : file->metadata.entries()) sum += value.ToString().size();
    EXPECT_GT(sum, 0u);
  });
  EXPECT_GT(errors, 1000);
  EXPECT_GT(loads, 1000);
}

TEST_F(GgufTest, NamesWhatIsWrong) {
  const auto message = [&](std::string content) {
    Overwrite(Path("bad.gguf"), content);
    const auto file = ReadGguf(Path("bad.gguf"));
    return file ? std::string() : file.error().message;
  };
  EXPECT_NE(message("PK\x03\x04 a zip").find("not a GGUF file"), std::string::npos);
  const std::string header("GGUF\x03\0\0\0", 8);
  EXPECT_NE(message(header + std::string(8, '\xff') + std::string(8, '\0')).find("number of tensors"),
            std::string::npos);
  EXPECT_NE(message(std::string("GGUF\x09\0\0\0", 8) + std::string(16, '\0')).find("version 9"),
            std::string::npos);
  EXPECT_NE(message(std::string("GGUF\0\0\0\x03", 8) + std::string(16, '\0')).find("big-endian"),
            std::string::npos);
  EXPECT_FALSE(ReadGguf(Path("absent.gguf")));
  EXPECT_FALSE(ReadGguf(directory_));
}

TEST_F(GgufTest, LoraRoundTripAndRefusals) {
  const std::vector<float> a(8, 1), b(12, 2);
  TensorTable tensors;
  tensors.Add({"blk.0.attn_q.weight.lora_a", WeightType::kF32, {2, 4}, Bytes(a)});
  tensors.Add({"blk.0.attn_q.weight.lora_b", WeightType::kF32, {6, 2}, Bytes(b)});
  ASSERT_TRUE(WriteGgufLora(Path("lora.gguf"), "llama", 16, tensors));
  const auto lora = ReadGgufLora(Path("lora.gguf"));
  ASSERT_TRUE(lora) << lora.error().message;
  EXPECT_EQ(lora->arch, "llama");
  EXPECT_EQ(lora->alpha, 16);
  EXPECT_EQ(lora->file.tensors.size(), 2u);
  const auto model = ReadGgufLora(WriteSmall());
  ASSERT_FALSE(model);
  EXPECT_NE(model.error().message.find("not a LoRA adapter"), std::string::npos);
}

}  // namespace
}  // namespace thimble

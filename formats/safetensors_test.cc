#include "formats/safetensors.h"

#include <cstring>

#include "base/json.h"
#include "formats/test_support.h"

namespace thimble {
namespace {

std::span<const uint8_t> Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

std::string FileOf(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof(length));
  return out.append(header).append(data);
}

class SafetensorsTest : public FormatsTest {
 protected:
  std::string WriteSmall(const std::string& name, const std::string& tensor = "weight") {
    TensorTable tensors;
    tensors.Add({tensor, WeightType::kF32, {2, 3}, Bytes(values_)});
    tensors.Add({tensor + ".empty", WeightType::kF16, {0, 3}, {}});
    tensors.Add({tensor + ".scalar", WeightType::kF32, {}, Bytes(one_)});
    const auto status = WriteSafetensors(Path(name), tensors, {{"format", "pt"}});
    EXPECT_TRUE(status) << status.error().message;
    return Path(name);
  }
  std::string MessageOf(std::string_view content) {
    Overwrite(Path("bad.safetensors"), content);
    const auto file = ReadSafetensors(Path("bad.safetensors"));
    return file ? std::string() : file.error().message;
  }
  const std::vector<float> values_ = {1, 2, 3, 4, 5, 6}, one_ = {7};
};

TEST_F(SafetensorsTest, RoundTrip) {
  const auto file = ReadSafetensors(WriteSmall("a.safetensors"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata.at("format"), "pt");
  ASSERT_EQ(file->tensors.size(), 3u);
  EXPECT_EQ(file->tensors.tensors()[0].name, "weight");
  EXPECT_EQ(file->tensors.tensors()[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file->tensors.tensors()[0].bytes.data(), values_.data(), 24), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file->tensors.tensors()[0].bytes.data()) % 8, 0u);
  EXPECT_EQ(file->tensors.Find("weight.scalar")->shape.size(), 0u);
}

TEST_F(SafetensorsTest, QuantizedTensorsHaveNoPlace) {
  TensorTable tensors;
  tensors.Add({"w", WeightType::kQ8_0, {32}, {}});
  EXPECT_FALSE(WriteSafetensors(Path("q.safetensors"), tensors));
  EXPECT_FALSE(std::filesystem::exists(Path("q.safetensors")));
}

TEST_F(SafetensorsTest, NamesWhatIsWrong) {
  const auto has = [](const std::string& message, const char* part) {
    return message.find(part) != std::string::npos;
  };
  const std::string data(8, '\0');
  const auto one = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  EXPECT_EQ(MessageOf(FileOf(one("\"F32\"", "[2]", "[0,8]"), data)), "");
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F8_E4M3\"", "[8]", "[0,8]"), data)), "F8_E4M3"));
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F32\"", "[3]", "[0,8]"), data)), "12 bytes"));
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F32\"", "[-1]", "[0,8]"), data)), "shape"));
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F32\"", "[4294967296,4294967296]", "[0,8]"), data)), "overflows"));
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F32\"", "[2]", "[8,16]"), data)), "data_offsets"));
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F32\"", "[1]", "[4,8]"), data)), "gap"));
  EXPECT_TRUE(has(MessageOf(FileOf(one("\"F32\"", "[1]", "[0,4]"), data)), "describes 4 bytes"));
  EXPECT_TRUE(has(MessageOf(FileOf("[1]", "")), "not a JSON object"));
  EXPECT_TRUE(has(MessageOf(FileOf("{\"w\":", "")), "bad.safetensors"));
  EXPECT_TRUE(has(MessageOf("\xff\xff\xff\xff\xff\xff\xff\xff{}"), "header's length"));
  EXPECT_TRUE(has(MessageOf(FileOf(std::string(100000, '['), "")), "nest"));
}

TEST_F(SafetensorsTest, EveryTruncationIsAnError) {
  const std::string path = WriteSmall("a.safetensors");
  ForEachTruncation(path, *ReadFile(path), [&](size_t size) {
    const auto file = ReadSafetensors(path);
    ASSERT_FALSE(file) << "cut after " << size;
    ExpectNamesFile(file.error(), path);
  });
}

TEST_F(SafetensorsTest, RandomCorruptionsAreErrorsOrNormalLoads) {
  const std::string path = WriteSmall("a.safetensors");
  int loads = 0;
  ForEachCorruption(path, *ReadFile(path), 10000, [&] {
    const auto file = ReadSafetensors(path);
    if (!file) return ExpectNamesFile(file.error(), path);
    ++loads;
    for (const TensorInfo& tensor : file->tensors) {
      EXPECT_EQ(tensor.bytes.size(), RowBytes(tensor.type, tensor.n_elements()));
    }
  });
  EXPECT_GT(loads, 500);
}

TEST_F(SafetensorsTest, Shards) {
  WriteSmall("one.safetensors", "a");
  WriteSmall("two.safetensors", "b");
  const auto index = [&](const std::string& home_of_b) {
    Json map = {{"a", "one.safetensors"},
                {"a.empty", "one.safetensors"},
                {"a.scalar", "one.safetensors"},
                {"b.empty", "two.safetensors"},
                {"b.scalar", "two.safetensors"}};
    if (!home_of_b.empty()) map["b"] = home_of_b;
    Write("model.safetensors.index.json", DumpJson({{"metadata", Json::object()}, {"weight_map", map}}));
    return ReadSafetensorsDirectory(directory_);
  };
  const auto good = index("two.safetensors");
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->tensors.size(), 6u);
  EXPECT_EQ(good->files.size(), 2u);
  EXPECT_FALSE(index("one.safetensors"));     // it is elsewhere
  EXPECT_FALSE(index(""));                    // the index doesn't know it
  EXPECT_FALSE(index("../two.safetensors"));  // leads out of the folder
  EXPECT_FALSE(index("absent.safetensors"));
}

TEST_F(SafetensorsTest, EmptyFolderSaysWhatIsMissing) {
  const auto file = ReadSafetensorsDirectory(directory_);
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("model.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace thimble

#include "eval/random_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "formats/model_file.h"
#include "model/model.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

class RandomModel : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "random_model_" + std::to_string(getpid());
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string Write(const std::string& type, uint64_t seed, const std::string& name) {
    const auto shape = FindRandomModelShape("tiny");
    EXPECT_TRUE(shape);
    const std::string path = dir_ + "/" + name;
    const Status written = WriteRandomModel(**shape, type, path, seed);
    EXPECT_TRUE(written) << written.error().message;
    return path;
  }

  std::string dir_;
};

TEST_F(RandomModel, EveryTypeRunsToFiniteLogits) {
  ThreadPool pool(1);
  const Context ctx{.pool = pool};
  for (const char* type : {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K", "IQ4_XS", "Q5_0", "Q2_K",
                           "T2", "T3", "T4", "T5"}) {
    SCOPED_TRACE(type);
    auto model = Model::Load(Write(type, 0, type));
    ASSERT_TRUE(model) << model.error().message;
    const std::vector<int32_t> tokens{1, 200, 319, 0};
    const Tensor logits = Logits(ctx, **model, ForwardHidden(ctx, **model, {.tokens = tokens}));
    ASSERT_EQ(logits.cols(), 320);
    float largest = 0;
    for (int64_t i = 0; i < logits.cols(); ++i) {
      ASSERT_TRUE(std::isfinite(logits.row(3)[i]));
      largest = std::max(largest, std::abs(logits.row(3)[i]));
    }
    EXPECT_GT(largest, 0.01f);
  }
}

TEST_F(RandomModel, TheSeedDecides) {
  const auto read = [](const std::string& path) {
    auto file = MappedFile::Open(path);
    EXPECT_TRUE(file);
    const auto bytes = (*file)->bytes();
    return std::string(bytes.begin(), bytes.end());
  };
  const std::string first = read(Write("Q4_0", 1, "a"));
  EXPECT_EQ(first, read(Write("Q4_0", 1, "b")));
  EXPECT_NE(first, read(Write("Q4_0", 2, "c")));
}

TEST_F(RandomModel, TheVocabularyWritesAnyText) {
  auto file = OpenModelFile(Write("Q8_0", 0, "vocabulary"));
  ASSERT_TRUE(file);
  auto tokenizer = LoadTokenizer(*file);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const std::string text = "a tin \xc3\xbc\n";
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, false, false)), text);
}

TEST_F(RandomModel, AnUnknownNameIsAnError) {
  const auto shape = FindRandomModelShape("5B");
  ASSERT_FALSE(shape);
  EXPECT_NE(shape.error().message.find("0.5B, 1B, 3B"), std::string::npos);
  EXPECT_FALSE(WriteRandomModel(*RandomModelShapes().begin(), "Q9_9", dir_ + "/x"));
}

}  // namespace
}  // namespace thimble

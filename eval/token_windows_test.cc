#include "eval/token_windows.h"

#include <gtest/gtest.h>

#include "model/model.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

class TokenWindowsTest : public ::testing::Test {
 protected:
  TokenWindowsTest() {
    const auto file = OpenModelFile(THIMBLE_SOURCE_DIR "/tests/golden/models/llama");
    EXPECT_TRUE(file) << file.error().message;
    tokenizer_ = *LoadTokenizer(*file);
  }
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(TokenWindowsTest, AreTheTextsTokensOneAfterAnother) {
  const std::string text(100, 'a');
  const auto ids = tokenizer_->Encode(text, true, false);
  const auto windows = SplitIntoWindows(*tokenizer_, text, 8, 0, 1 << 20);
  ASSERT_TRUE(windows) << windows.error().message;
  EXPECT_EQ(windows->size(), static_cast<int64_t>(ids.size()) / 8);
  EXPECT_TRUE(std::equal(windows->tokens.begin(), windows->tokens.end(), ids.begin()));
  EXPECT_EQ((*windows)[1].data(), windows->tokens.data() + 8);
  EXPECT_EQ(windows->first_scored(), 4);
  EXPECT_EQ(windows->n_scored(), 3);  // positions 4, 5 and 6 predict 5, 6 and 7
  EXPECT_EQ(SplitIntoWindows(*tokenizer_, text, 8, 2, 1 << 20)->size(), 2);
}

TEST_F(TokenWindowsTest, ATextThatIsTooShortSaysHowMuchIsNeeded) {
  const auto windows = SplitIntoWindows(*tokenizer_, "just a few words", 512, 0, 1 << 20);
  ASSERT_FALSE(windows);
  EXPECT_NE(windows.error().message.find("at least 512"), std::string::npos) << windows.error().message;
  EXPECT_FALSE(SplitIntoWindows(*tokenizer_, "", 512, 0, 1 << 20));
  EXPECT_FALSE(SplitIntoWindows(*tokenizer_, std::string(100, 'a'), 3, 0, 1 << 20));
  EXPECT_FALSE(SplitIntoWindows(*tokenizer_, std::string(100, 'a'), 8, 0, 2));  // ids beyond the embeddings
}

}  // namespace
}  // namespace thimble

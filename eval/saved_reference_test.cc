#include "eval/saved_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/random.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class SavedReferenceTest : public ::testing::Test {
 protected:
  SavedReferenceTest() { std::filesystem::create_directories(folder_); }
  ~SavedReferenceTest() override { std::filesystem::remove_all(folder_); }

  // Three windows of eight tokens with random predictions.
  SavedReference Make(int64_t vocab_size = 300) {
    SavedReference reference({.model = "m.gguf",
                              .model_sha256 = std::string(64, 'a'),
                              .model_bytes = 123,
                              .n_ctx = 8,
                              .vocab_size = vocab_size,
                              .top_k = 5,
                              .n_tail = 4});
    Random random(1);
    for (int64_t i = 0; i < windows_.size(); ++i) {
      std::vector<Prediction> predictions;
      for (int64_t j = 0; j < windows_.n_scored(); ++j) {
        std::vector<float> logits(static_cast<size_t>(vocab_size));
        for (float& x : logits) x = static_cast<float>(random.Normal());
        predictions.push_back(reference.Keep(logits, 3, windows_[i], 4 + j));
      }
      reference.Add(windows_[i], predictions);
      predictions_.push_back(std::move(predictions));
    }
    return reference;
  }
  std::string LoadError(const std::string& bytes) {
    EXPECT_TRUE(WriteFileAtomically(path_, bytes));
    const auto loaded = SavedReference::Load(path_);
    EXPECT_FALSE(loaded);
    return loaded ? "" : loaded.error().message;
  }

  const std::string folder_ = ::testing::TempDir() + "/saved_reference_test", path_ = folder_ + "/r.tref";
  TokenWindows windows_{.n_ctx = 8, .tokens = {}};
  std::vector<std::vector<Prediction>> predictions_;

  void SetUp() override {
    for (TokenId i = 0; i < 24; ++i) windows_.tokens.push_back(i * 7 % 50);
  }
};

TEST_F(SavedReferenceTest, ComesBackFromItsFile) {
  for (int64_t vocab_size : {300, 70000}) {  // ids of two and of four bytes
    predictions_.clear();
    ASSERT_TRUE(Make(vocab_size).Save(path_));
    EXPECT_TRUE(SavedReference::Is(path_));
    const auto loaded = SavedReference::Load(path_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->header().model, "m.gguf");
    EXPECT_EQ(loaded->header().model_sha256, std::string(64, 'a'));
    EXPECT_EQ(loaded->header().model_bytes, 123);
    EXPECT_EQ(loaded->n_positions(), 9);
    EXPECT_TRUE(loaded->Covers(windows_, vocab_size));
    const auto found = loaded->Find(windows_[1]);
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_EQ(found->size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      const Prediction &got = (*found)[i], &want = predictions_[1][i];
      EXPECT_EQ(got.target_log_p, static_cast<float>(want.target_log_p));
      EXPECT_EQ(got.log_tail, static_cast<float>(want.log_tail));
      ASSERT_EQ(got.top.size(), 5u);
      ASSERT_EQ(got.tail.size(), 4u);
      for (size_t j = 0; j < 5; ++j) {
        EXPECT_EQ(got.top[j].id, want.top[j].id);
        EXPECT_NEAR(got.top[j].log_p, want.top[j].log_p, 0.5 / 2048 + 1e-6);
      }
      EXPECT_EQ(got.tail[3].id, want.tail[3].id);
    }
  }
}

// tests/golden/reference.tref is what Make().Save() wrote when the format was new.
TEST_F(SavedReferenceTest, FilesOfEarlierProgramsAreRead) {
  Make();
  const auto golden = SavedReference::Load(THIMBLE_SOURCE_DIR "/tests/golden/reference.tref");
  ASSERT_TRUE(golden) << golden.error().message;
  ASSERT_TRUE(golden->Covers(windows_, 300));
  for (int64_t i = 0; i < 3; ++i) {
    const auto found = golden->Find(windows_[i]);
    ASSERT_TRUE(found) << found.error().message;
    for (size_t j = 0; j < 3; ++j) {
      const Prediction &got = (*found)[j], &want = predictions_[static_cast<size_t>(i)][j];
      EXPECT_NEAR(got.target_log_p, want.target_log_p, 1e-5);
      EXPECT_NEAR(got.log_tail, want.log_tail, 1e-5);
      for (size_t k = 0; k < 5; ++k) EXPECT_EQ(got.top[k].id, want.top[k].id);
      for (size_t k = 0; k < 4; ++k) EXPECT_NEAR(got.tail[k].log_p, want.tail[k].log_p, 1e-3);
    }
  }
}

TEST_F(SavedReferenceTest, WhatItDoesNotCoverIsRefused) {
  const SavedReference reference = Make();
  EXPECT_TRUE(reference.Covers(windows_, 300));
  EXPECT_TRUE(
      reference.Covers({.n_ctx = 8, .tokens = {windows_.tokens.begin(), windows_.tokens.begin() + 16}}, 300));
  EXPECT_THAT(reference.Covers(windows_, 301).error().message,
              HasSubstr("vocabulary of 300, the model has 301"));
  EXPECT_THAT(reference.Covers({.n_ctx = 12, .tokens = windows_.tokens}, 300).error().message,
              HasSubstr("-c 8"));
  TokenWindows other = windows_;
  other.tokens[0] += 1;
  EXPECT_THAT(reference.Covers(other, 300).error().message, HasSubstr("another text"));
  TokenWindows longer = windows_;
  longer.tokens.insert(longer.tokens.end(), 8, 1);
  EXPECT_THAT(reference.Covers(longer, 300).error().message, HasSubstr("--max-windows 3"));
}

TEST_F(SavedReferenceTest, TheSameWindowTwiceIsKeptOnce) {
  windows_.tokens.assign(24, 5);
  const SavedReference reference = Make();
  EXPECT_EQ(reference.n_positions(), 3);
  EXPECT_TRUE(reference.Covers(windows_, 300));
}

TEST_F(SavedReferenceTest, DamagedFilesAreRefused) {
  ASSERT_TRUE(Make().Save(path_));
  const std::string whole = *ReadFile(path_);
  for (size_t n : {size_t{0}, size_t{3}, size_t{107}, size_t{110}, whole.size() / 2, whole.size() - 1}) {
    EXPECT_THAT(LoadError(whole.substr(0, n)), HasSubstr(path_)) << n;
  }
  EXPECT_THAT(LoadError(whole + "x"), HasSubstr("cut short"));
  const auto with = [&](size_t at, char value) {
    std::string bytes = whole;
    bytes[at] = value;
    return bytes;
  };
  EXPECT_THAT(LoadError(with(0, 'X')), HasSubstr("not a saved reference"));
  EXPECT_THAT(LoadError(with(4, 9)), HasSubstr("version 9"));
  EXPECT_THAT(LoadError(with(8, 1)), HasSubstr("byte 8"));
  EXPECT_THAT(LoadError(with(19, 1)), HasSubstr("byte 16"));
  EXPECT_THAT(LoadError(with(24, 4)), HasSubstr("4 windows"));
  EXPECT_THAT(LoadError(with(31, '\x7f')), HasSubstr("cut short"));
  std::string twice = whole;  // the second window gets the first one's hash
  const size_t begin = 108 + 6, block = (whole.size() - begin) / 3;
  twice.replace(begin + block, 16, whole.substr(begin, 16));
  EXPECT_THAT(LoadError(twice), HasSubstr("a second time"));

  const auto find_error = [&](size_t at, char value) {
    EXPECT_TRUE(WriteFileAtomically(path_, with(begin + 16 + at, value)));
    const auto loaded = SavedReference::Load(path_);
    EXPECT_TRUE(loaded) << loaded.error().message;
    const auto found = loaded->Find(windows_[0]);
    return found ? "" : found.error().message;
  };
  EXPECT_THAT(find_error(3, 0x40), HasSubstr("not a log-probability"));
  EXPECT_THAT(find_error(7, 0x40), HasSubstr("logarithm"));
  EXPECT_THAT(find_error(9, 0x7f), HasSubstr("beyond the vocabulary"));
}

TEST_F(SavedReferenceTest, OtherFilesAreNone) {
  EXPECT_FALSE(SavedReference::Is(folder_));
  EXPECT_FALSE(SavedReference::Is(folder_ + "/absent"));
  ASSERT_TRUE(WriteFileAtomically(path_, "GGUF"));
  EXPECT_FALSE(SavedReference::Is(path_));
}

}  // namespace
}  // namespace thimble

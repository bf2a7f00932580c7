#include "engine/cached_model.h"

#include <gtest/gtest.h>

#include "engine/test_support.h"

namespace thimble {
namespace {

std::vector<float> Values(const Tensor& t) {
  return {t.data(), t.data() + t.size()};
}

// `n` tokens that do not repeat themselves soon.
std::vector<TokenId> Text(int64_t n) {
  std::vector<TokenId> tokens(static_cast<size_t>(n));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(2 + (i * i + 7 * i) % 251);
  return tokens;
}

// What guessing ahead rests on: bit for bit, however many tokens are read at once.
TEST(CachedModel, ReadsTogetherWhatItReadsOneByOne) {
  ThreadPool pool(2);
  for (const char* name : {"llama", "gemma3_text"}) {  // without and with sliding windows
    for (Compute compute : {Compute::kF32, Compute::kInt8}) {
      const Context ctx{.pool = pool, .compute = compute};
      const Loaded loaded = Load(name);
      for (int64_t n_before : {1, 40, 300, 409}) {
        SCOPED_TRACE(testing::Message() << name << " after " << n_before << " tokens");
        const std::vector<TokenId> text = Text(n_before + kFewRows);
        const auto first = [&](int64_t n) { return std::span(text).first(static_cast<size_t>(n)); };
        CachedModel one(ctx, *loaded.model, 512), many(ctx, *loaded.model, 512);
        one.Read(first(n_before));
        many.Read(first(n_before));
        std::vector<float> alone;
        for (int64_t i = 1; i <= kFewRows; ++i) {
          const auto logits = Values(one.Read(first(n_before + i)));
          alone.insert(alone.end(), logits.begin(), logits.end());
        }
        for (int64_t n : {int64_t{2}, int64_t{3}, int64_t{4}, int64_t{7}, kFewRows}) {
          many.Truncate(n_before);
          EXPECT_EQ(Values(many.Read(first(n_before + n), n)),
                    std::vector<float>(alone.begin(), alone.begin() + n * many.config().vocab_size))
              << n << " tokens";
        }
      }
    }
  }
}

TEST(CachedModel, KeepsWhatIsSharedAndForgetsTheRest) {
  ThreadPool pool(1);
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const Loaded llama = Load("llama");
  CachedModel model(ctx, *llama.model, 32);
  std::vector<TokenId> text = Text(kFewRows);
  EXPECT_EQ(model.Cached(text), 0);
  const auto expected = Values(model.Read(text, 5));
  EXPECT_EQ(model.Cached(text), kFewRows);
  EXPECT_EQ(Values(model.Read(text, 5)), expected);
  text[12] = 3;
  EXPECT_EQ(model.Cached(text), 12);
  const auto changed = Values(model.Read(text, 5));
  EXPECT_NE(changed, expected);
  CachedModel fresh(ctx, *llama.model, 32);
  EXPECT_EQ(Values(fresh.Read(text, 5)), changed);
  model.Truncate(7);
  EXPECT_EQ(model.Cached(text), 7);
  model.Truncate(30);  // nothing to forget
  EXPECT_EQ(model.Cached(text), 7);
}

// Pieces of 512: the last rows stand in one of them however the text is cut.
TEST(CachedModel, ALongTextGivesTheSameHoweverItIsCut) {
  ThreadPool pool(2);
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const Loaded llama = Load("llama");
  for (int64_t n : {512, 513, 515, 1024, 1030}) {
    const std::vector<TokenId> text = Text(n);
    CachedModel model(ctx, *llama.model, 2048), other(ctx, *llama.model, 2048);
    const auto last = Values(model.Read(text));
    const auto eight = Values(other.Read(text, 8));
    for (size_t i = 0; i < last.size(); ++i) {
      EXPECT_NEAR(eight[eight.size() - last.size() + i], last[i], 1e-4f) << n << " tokens";
    }
  }
}

}  // namespace
}  // namespace thimble

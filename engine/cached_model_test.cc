#include "engine/cached_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/test_support.h"
#include "ops/embedding.h"

namespace thimble {
namespace {

std::vector<float> Values(const Tensor& t) {
  return {t.data(), t.data() + t.size()};
}

float LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
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

// Virtual tokens that are the embeddings of real ones are those tokens.
TEST(CachedModel, AdaptersPutTokensBeforeTheText) {
  ThreadPool pool(2);
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  for (const char* name : {"llama", "gemma3_text"}) {
    SCOPED_TRACE(name);
    const Loaded loaded = Load(name);
    const ModelConfig& c = loaded.model->config();
    const std::vector<TokenId> text = Text(20), before(text.begin(), text.begin() + 6),
                               after(text.begin() + 6, text.end());
    const float scale = c.arch->scale_embedding ? std::sqrt(static_cast<float>(c.d_model)) : 1.0f;
    Adapter adapter{.name = "prompt", .prompt = Embedding(ctx, loaded.model->embedding(), before, scale)};
    adapter.layers.resize(loaded.model->layers().size());
    const KvTypes exact{WeightType::kF32, WeightType::kF32};
    CachedModel plain(ctx, *loaded.model, 20, exact), prompted(ctx, *loaded.model, 14, exact);
    const auto without = Values(plain.Read(after, 8));
    const auto expected = Values(plain.Read(text, 8));
    prompted.SetAdapters({{.adapter = &adapter}});
    EXPECT_EQ(prompted.capacity(), 14);
    for (int i = 0; i < 2; ++i) {  // again from what is kept
      const auto read = Values(prompted.Read(after, 8));
      EXPECT_LE(LargestDifference(read, expected), 1e-4f);
      prompted.Truncate(3);
      EXPECT_EQ(prompted.Cached(after), 3);
    }
    const AppliedAdapter applied[] = {{.adapter = &adapter}};
    const Tensor hidden = ForwardHidden(ctx, *loaded.model, {.tokens = after, .adapters = applied});
    const auto uncached = Values(Logits(ctx, *loaded.model, hidden));
    EXPECT_LE(LargestDifference({uncached.end() - 8 * c.vocab_size, uncached.end()}, expected), 1e-4f);
    EXPECT_GT(LargestDifference(without, expected), 0.01f);
    prompted.SetAdapters({{.adapter = &adapter, .scale = 0}});
    EXPECT_LE(LargestDifference(Values(prompted.Read(after, 8)), without), 1e-4f);
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

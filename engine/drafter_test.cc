#include "engine/drafter.h"

#include <gtest/gtest.h>

#include "engine/test_support.h"

namespace thimble {
namespace {

std::vector<TokenId> Lookup(const std::vector<TokenId>& history, int64_t max = 4) {
  NgramDrafter drafter;
  return drafter.Draft(history, max, Sampler({}));
}

using Ids = std::vector<TokenId>;

TEST(NgramDrafter, CopiesWhatCameAfterTheSameTokens) {
  EXPECT_EQ(Lookup({9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4}), (Ids{5, 6, 7, 8}));
  EXPECT_EQ(Lookup({9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4}, 2), (Ids{5, 6}));
}

TEST(NgramDrafter, TheLongestMatchWinsThenTheLast) {
  EXPECT_EQ(Lookup({0, 1, 2, 3, 4, 50, 1, 2, 3, 4, 60, 0, 1, 2, 3, 4}, 1), (Ids{50}));
  EXPECT_EQ(Lookup({0, 1, 2, 3, 4, 50, 0, 1, 2, 3, 4, 60, 0, 1, 2, 3, 4}, 1), (Ids{60}));
}

TEST(NgramDrafter, ARepetitionGoesOnPastItsEnd) {
  EXPECT_EQ(Lookup({7, 1, 2, 1, 2, 1, 2}), (Ids{1, 2, 1, 2}));
  EXPECT_EQ(Lookup({5, 5, 5, 5, 5}), (Ids{5, 5, 5, 5}));
}

TEST(NgramDrafter, NothingToGoBy) {
  for (const Ids& history :
       {Ids{}, Ids{1}, Ids{1, 1, 1, 1}, Ids{1, 2, 3, 4, 5, 6}, Ids{1, 2, 3, 9, 1, 2, 3}}) {
    EXPECT_TRUE(Lookup(history).empty()) << history.size();
  }
  EXPECT_TRUE(Lookup({1, 2, 3, 4, 1, 2, 3, 4}, 0).empty());
}

// The target as its own draft model guesses all its tokens, at any temperature, since both draw alike.
TEST(ModelDrafter, DrawsAsTheTargetWill) {
  ThreadPool pool(1);
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const Loaded llama = Load("llama");
  for (double temperature : {0.0, 0.8, 5.0}) {
    auto drafter = ModelDrafter::Create(ctx, *llama.model, *llama.tokenizer, *llama.tokenizer, 64);
    ASSERT_TRUE(drafter) << drafter.error().message;
    Sampler sampler({.temperature = temperature, .top_k = 0, .min_p = 0, .repeat_penalty = 1.3, .seed = 3});
    CachedModel target(ctx, *llama.model, 64);
    Ids history{10, 20, 30, 40};
    for (int round = 0; round < 5; ++round) {
      const Ids draft = (*drafter)->Draft(history, 6, sampler);
      ASSERT_EQ(draft.size(), 6u);
      for (TokenId guess : draft) {
        const Tensor logits = target.Read(history);
        const TokenId id = sampler.Sample({logits.data(), static_cast<size_t>(logits.cols())}, history);
        EXPECT_EQ(guess, id) << "temperature " << temperature;
        history.push_back(id);
      }
      history.resize(history.size() - 3);  // some were not taken
    }
  }
}

TEST(ModelDrafter, TokensThatItDoesNotKnowLeaveNothingToGoBy) {
  ThreadPool pool(1);
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const Loaded llama = Load("llama");
  TokenizerSpec spec = llama.tokenizer->spec();
  const TokenId added = static_cast<TokenId>(spec.tokens.size());
  spec.tokens.push_back("<added>");
  spec.types.push_back(TokenType::kUnused);
  auto target = Tokenizer::Create(spec);
  ASSERT_TRUE(target) << target.error().message;
  auto drafter = ModelDrafter::Create(ctx, *llama.model, *llama.tokenizer, *target, 64);
  ASSERT_TRUE(drafter) << drafter.error().message;
  const Sampler greedy({.temperature = 0});
  EXPECT_EQ((*drafter)->Draft(Ids{10, 20, added, 30}, 3, greedy), Ids{});
  EXPECT_EQ((*drafter)->Draft(Ids{10, 20, 30}, 3, greedy).size(), 3u);
}

TEST(ModelDrafter, AnotherVocabularyIsRefused) {
  ThreadPool pool(1);
  const Context ctx{.pool = pool};
  const Loaded llama = Load("llama");
  const auto create = [&](const TokenizerSpec& spec) {
    auto target = Tokenizer::Create(spec);
    EXPECT_TRUE(target) << target.error().message;
    const auto drafter = ModelDrafter::Create(ctx, *llama.model, *llama.tokenizer, *target, 64);
    return drafter ? "" : drafter.error().message;
  };
  TokenizerSpec spec = llama.tokenizer->spec();
  EXPECT_EQ(create(spec), "");
  std::swap(spec.tokens[270], spec.tokens[271]);
  const std::string message = create(spec);
  EXPECT_NE(message.find("llama: a draft model needs the vocabulary"), std::string::npos) << message;
  EXPECT_NE(message.find("token 270 is \"ead\" here, not \"ho\""), std::string::npos) << message;

  spec = llama.tokenizer->spec();  // a few more at the end are padding, many are not
  const size_t n = spec.tokens.size();
  for (int i = 0; i < 128; ++i) {
    spec.tokens.push_back("<pad " + std::to_string(i) + ">");
    spec.types.push_back(TokenType::kUnused);
  }
  EXPECT_EQ(create(spec), "");
  spec.tokens.push_back("one too many");
  spec.types.push_back(TokenType::kUnused);
  EXPECT_NE(create(spec).find(std::to_string(n) + " tokens, not " + std::to_string(n + 129)),
            std::string::npos);
}

}  // namespace
}  // namespace thimble

#include "eval/exact_match.h"

#include <gtest/gtest.h>

#include "text/load_tokenizer.h"

namespace thimble {
namespace {

TEST(ExactMatch, ComparesWholeAnswersWithoutOuterWhiteSpace) {
  auto model = Model::Load(THIMBLE_SOURCE_DIR "/tests/golden/models/llama");
  ASSERT_TRUE(model) << model.error().message;
  auto tokenizer = LoadTokenizer((*model)->file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  ThreadPool pool(1);
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  Session session(ctx, **model, *tokenizer);
  GenerateOptions greedy{.max_tokens = 12};
  greedy.sampling.temperature = 0;
  const std::vector<TokenId> one = {70, 80, 90}, two = {100, 110};
  const std::string answer = session.Generate(one, greedy)->text;
  ASSERT_FALSE(answer.empty());

  std::vector<double> done;
  const auto result =
      MeasureExactMatch(OneRank(), session,
                        {{one, "\n " + answer + "  "}, {two, "not that"}, {one, answer + "x"}, {one, answer}},
                        12, [&](const Progress& p) {
                          done.push_back(p.done);
                          return true;
                        });
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->n_correct, 2);
  EXPECT_DOUBLE_EQ(result->exact_match(), 0.5);
  EXPECT_TRUE(result->answers[0].correct);
  EXPECT_FALSE(result->answers[1].correct);
  EXPECT_EQ(result->answers[1].expected, "not that");
  EXPECT_EQ(done, (std::vector<double>{1, 2, 3, 4}));

  const auto cancelled =
      MeasureExactMatch(OneRank(), session, {{one, ""}}, 12, [](const Progress&) { return false; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace thimble

#include "eval/text_scores.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace thimble {
namespace {

std::vector<TextPair> PairsOf(const Json& json) {
  std::vector<TextPair> pairs;
  for (const Json& pair : json) pairs.push_back({pair[0].get<std::string>(), pair[1].get<std::string>()});
  return pairs;
}

TEST(TextScores, AreSacreBleusAndScikitLearns) {
  const auto cases = ReadJsonFile(THIMBLE_SOURCE_DIR "/tests/golden/text_scores.json");
  ASSERT_TRUE(cases) << cases.error().message;
  ASSERT_GT(cases->size(), 10u);
  for (const Json& golden : *cases) {
    SCOPED_TRACE(golden["pairs"][0].dump());
    const TextScores scores = ScoreTexts(PairsOf(golden["pairs"]));
    EXPECT_NEAR(scores.bleu.value, golden["bleu"].get<double>(), 1e-9);
    EXPECT_NEAR(scores.chrf.value, golden["chrf"].get<double>(), 1e-9);
    EXPECT_NEAR(scores.macro_f1.value, golden["macro_f1"].get<double>(), 1e-9);
  }
}

TEST(TextScores, IntervalsHoldTheScoreAndShrinkWithMorePairs) {
  std::vector<TextPair> pairs;
  for (int i = 0; i < 40; ++i) {
    pairs.push_back({i % 4 == 0 ? "a b c d x" : "a b c d e", i % 3 == 0 ? "a b c d x" : "a b c d e"});
  }
  const TextScores few = ScoreTexts(pairs);
  for (int i = 0; i < 360; ++i) pairs.push_back(pairs[static_cast<size_t>(i) % 40]);
  const TextScores many = ScoreTexts(pairs);
  for (const auto score : {&TextScores::bleu, &TextScores::chrf, &TextScores::macro_f1}) {
    const TextScore &a = few.*score, &b = many.*score;
    EXPECT_NEAR(a.value, b.value, 1e-9);
    EXPECT_LT(a.interval.low, a.value);
    EXPECT_GT(a.interval.high, a.value);
    // As one over the root of the number of pairs.
    const double ratio = (a.interval.high - a.interval.low) / (b.interval.high - b.interval.low);
    EXPECT_GT(ratio, 2.4);
    EXPECT_LT(ratio, 4);
  }
  const TextScores again = ScoreTexts(pairs);
  EXPECT_EQ(again.bleu.interval.low, many.bleu.interval.low);
}

TEST(TextScores, BytesThatAreNoTextAreCharactersToo) {
  EXPECT_NEAR(ScoreTexts({{"\xff\xfe a b c", "\xff\xfe a b c"}}).chrf.value, 100, 1e-9);
}

}  // namespace
}  // namespace thimble

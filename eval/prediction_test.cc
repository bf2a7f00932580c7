#include "eval/prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/random.h"

namespace thimble {
namespace {

std::vector<float> SomeLogits(size_t n, double scale, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& value : x) value = static_cast<float>(scale * random.Normal());
  return x;
}

// The logits of a model that was rounded.
std::vector<float> Disturbed(std::vector<float> x, double by, uint64_t seed) {
  Random random(seed);
  for (float& value : x) value += static_cast<float>(by * random.Normal());
  return x;
}

std::vector<double> Probabilities(const std::vector<float>& logits) {
  std::vector<double> p(logits.begin(), logits.end());
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x);
  for (double& x : p) x /= sum;
  return p;
}

double PlainDivergence(const std::vector<float>& logits, const std::vector<float>& reference) {
  const auto q = Probabilities(logits), p = Probabilities(reference);
  double kld = 0;
  for (size_t i = 0; i < p.size(); ++i) kld += p[i] * std::log(p[i] / q[i]);
  return kld;
}

TEST(Prediction, KeepsTheMostLikelyAndWhatIsLeft) {
  const auto logits = SomeLogits(500, 2, 1);
  const auto p = Probabilities(logits);
  const Prediction kept = KeepPrediction(logits, 10, 6, 7, 3);
  EXPECT_NEAR(kept.target_log_p, std::log(p[7]), 1e-5);
  auto sorted = p;
  std::sort(sorted.rbegin(), sorted.rend());
  double rest = 1;
  std::set<TokenId> ids;
  ASSERT_EQ(kept.top.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_NEAR(kept.top[i].log_p, std::log(sorted[i]), 1e-5);
    EXPECT_NEAR(kept.top[i].log_p, std::log(p[static_cast<size_t>(kept.top[i].id)]), 1e-5);
    rest -= sorted[i];
    ids.insert(kept.top[i].id);
  }
  EXPECT_NEAR(kept.log_tail, std::log(rest), 1e-5);
  ASSERT_EQ(kept.tail.size(), 6u);
  for (const TokenLogProb& token : kept.tail) {
    EXPECT_FALSE(ids.contains(token.id));
    EXPECT_NEAR(token.log_p, std::log(p[static_cast<size_t>(token.id)]), 1e-5);
  }
}

TEST(Prediction, TokensThatAreEquallyLikelyComeByTheirIds) {
  const std::vector<float> logits = {1, 5, 3, 5, 3};
  const auto top = MostLikely(logits, 4);
  std::vector<TokenId> ids;
  for (const auto& token : top) ids.push_back(token.id);
  EXPECT_EQ(ids, (std::vector<TokenId>{1, 3, 2, 4}));
  EXPECT_EQ(KeepPrediction(logits, 1, 0, 0, 0).top[0].id, 1);
}

TEST(Prediction, TheTailIsDrawnInProportion) {
  const std::vector<float> logits = {9, std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  std::vector<double> drawn(4);
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    for (const TokenLogProb& token : KeepPrediction(logits, 1, 1, 0, seed).tail) {
      drawn[static_cast<size_t>(token.id)] += 1.0 / 4000;
    }
  }
  EXPECT_EQ(drawn[0], 0);
  EXPECT_NEAR(drawn[1], 0.125, 0.025);
  EXPECT_NEAR(drawn[2], 0.25, 0.025);
  EXPECT_NEAR(drawn[3], 0.625, 0.025);
}

TEST(Prediction, WithoutATailTheDivergenceIsExact) {
  const auto reference = SomeLogits(40, 3, 1), logits = Disturbed(reference, 0.5, 2);
  for (int64_t k : {40, 45}) {
    const Prediction kept = KeepPrediction(reference, std::min<int64_t>(k, 40), 8, 3, 0);
    EXPECT_TRUE(std::isinf(kept.log_tail));
    EXPECT_TRUE(kept.tail.empty());
    EXPECT_NEAR(ScoreAgainst(logits, kept, 3).kld, PlainDivergence(logits, reference), 1e-5);
  }
}

TEST(Prediction, TheDivergenceIsEstimatedWithoutBias) {
  double exact = 0, estimate = 0, lump = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    const auto reference = SomeLogits(2000, 1.5, i), logits = Disturbed(reference, 0.3, 1000 + i);
    exact += PlainDivergence(logits, reference);
    estimate += ScoreAgainst(logits, KeepPrediction(reference, 16, 16, 0, i), 0).kld;
    const double without = ScoreAgainst(logits, KeepPrediction(reference, 16, 0, 0, i), 0).kld;
    EXPECT_LE(without, 1.0001 * ScoreAgainst(logits, reference, 0).kld);  // coarser, so never more
    lump += without;
  }
  EXPECT_NEAR(estimate, exact, 0.03 * exact);
  EXPECT_LT(lump, 0.7 * exact);
}

TEST(Prediction, AModelDoesNotDivergeFromItself) {
  const auto logits = SomeLogits(3000, 2, 5);
  const Prediction kept = KeepPrediction(logits, 16, 16, 9, 0);
  const TokenScore score = ScoreAgainst(logits, kept, 9);
  EXPECT_NEAR(score.kld, 0, 1e-7);
  EXPECT_NEAR(score.nll, score.reference_nll, 1e-5);
  EXPECT_TRUE(score.same_top);
}

TEST(Prediction, ScoresSayWhoWasRight) {
  const std::vector<float> reference = {3, 1, 0, 0}, logits = {1, 3, 0, 0};
  for (TokenId target : {0, 1, 2}) {
    const TokenScore score = ScoreAgainst(logits, reference, target);
    EXPECT_EQ(score.reference_right, target == 0);
    EXPECT_EQ(score.right, target == 1);
    EXPECT_FALSE(score.same_top);
    const TokenScore kept = ScoreAgainst(logits, KeepPrediction(reference, 2, 2, target, 0), target);
    EXPECT_EQ(kept.reference_right, score.reference_right);
    EXPECT_EQ(kept.right, score.right);
    EXPECT_NEAR(kept.reference_nll, score.reference_nll, 1e-5);
    EXPECT_NEAR(kept.nll, ScoreAlone(logits, target).nll, 1e-12);
  }
}

TEST(Prediction, APredictionThatMakesNoSenseStillGivesANumberOrNothing) {
  const auto logits = SomeLogits(50, 1, 5);
  Prediction twice = KeepPrediction(logits, 4, 4, 0, 0);
  twice.top.assign(4, {1, 0.0f});  // more than there is
  EXPECT_GE(ScoreAgainst(logits, twice, 0).kld, 0);
}

}  // namespace
}  // namespace thimble

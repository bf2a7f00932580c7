#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/random.h"

namespace thimble {
namespace {

std::vector<float> RandomLogits(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>(3 * random.Normal());
  return logits;
}

std::vector<double> Softmax(const std::vector<float>& logits, double temperature = 1) {
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(static_cast<double>(logits[i]) / temperature);
  for (double& x : p) x /= sum;
  return p;
}

TokenId SampleOnce(Sampler& sampler, std::vector<float> logits, std::vector<TokenId> history = {}) {
  return sampler.Sample(logits, history);
}

// Every filter off.
SamplingParams Plain(uint64_t seed = 1) {
  return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = seed};
}

std::map<TokenId, int> Counts(const SamplingParams& params, const std::vector<float>& logits, int n) {
  Sampler sampler(params);
  std::map<TokenId, int> counts;
  for (int i = 0; i < n; ++i) ++counts[SampleOnce(sampler, logits)];
  return counts;
}

std::set<TokenId> Seen(const SamplingParams& params, const std::vector<float>& logits) {
  std::set<TokenId> seen;
  for (const auto& [id, count] : Counts(params, logits, 20000)) seen.insert(id);
  return seen;
}

// Ids in the order of falling probability.
std::vector<TokenId> Order(const std::vector<float>& logits) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
  return ids;
}

TEST(Sampler, TemperatureZeroTakesTheLargest) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> logits = RandomLogits(100, seed);
    Sampler sampler({.temperature = 0, .seed = seed});
    EXPECT_EQ(SampleOnce(sampler, logits), Order(logits)[0]);
  }
}

TEST(Sampler, TiesGoToTheLowerId) {
  Sampler greedy({.temperature = 0});
  EXPECT_EQ(SampleOnce(greedy, {1, 5, 5, 5}), 1);
  SamplingParams params = Plain();
  params.top_k = 2;
  EXPECT_EQ(Seen(params, {1, 5, 5, 5}), (std::set<TokenId>{1, 2}));
}

TEST(Sampler, FrequenciesAreTheSoftmaxAtItsTemperature) {
  constexpr int kDraws = 50000;
  const std::vector<float> logits = {0.f, 1.f, 2.f, -1.f, 1.5f, 0.5f, -0.5f, 2.5f};
  for (double temperature : {0.5, 1.0, 2.0}) {
    SamplingParams params = Plain(7);
    params.temperature = temperature;
    const auto counts = Counts(params, logits, kDraws);
    const std::vector<double> p = Softmax(logits, temperature);
    double chi2 = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double expected = p[i] * kDraws,
                   seen = counts.contains(static_cast<TokenId>(i)) ? counts.at(static_cast<TokenId>(i)) : 0;
      chi2 += (seen - expected) * (seen - expected) / expected;
    }
    EXPECT_LT(chi2, 24.3) << "temperature " << temperature;  // 99.9 % quantile of chi-square, 7 degrees
  }
}

TEST(Sampler, TopKKeepsTheKLargest) {
  const std::vector<float> logits = {0.f, 1.f, 0.4f, 1.2f, 0.8f, 0.1f};
  SamplingParams params = Plain();
  params.top_k = 3;
  EXPECT_EQ(Seen(params, logits), (std::set<TokenId>{1, 3, 4}));
  params.top_k = 100;  // more than there are
  EXPECT_EQ(Seen(params, logits).size(), logits.size());
}

TEST(Sampler, TopPKeepsTheSmallestSetThatHoldsTheMass) {
  const std::vector<float> logits = {0.f, 1.f, 0.4f, 1.2f, 0.8f, 0.1f, -0.3f};
  const std::vector<double> p = Softmax(logits);
  for (double top_p : {0.1, 0.5, 0.8, 0.95}) {
    std::set<TokenId> expected;
    double mass = 0;
    for (TokenId id : Order(logits)) {
      if (mass >= top_p) break;
      expected.insert(id);
      mass += p[id];
    }
    SamplingParams params = Plain();
    params.top_p = top_p;
    EXPECT_EQ(Seen(params, logits), expected) << "top_p " << top_p;
  }
}

TEST(Sampler, TopPLooksAtTheProbabilitiesAfterTopK) {
  // Of the two left, the first has 0.73 of the mass, but only 0.3 of all.
  const std::vector<float> logits = {2.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f};
  SamplingParams params = Plain();
  params.top_k = 2;
  params.top_p = 0.7;
  EXPECT_EQ(Seen(params, logits), (std::set<TokenId>{0}));
}

TEST(Sampler, MinPDropsWhatIsFarBelowTheBest) {
  const std::vector<float> logits = {0.f, 1.f, 0.4f, 1.2f, 0.8f, 0.1f};
  const std::vector<double> p = Softmax(logits);
  const double best = *std::max_element(p.begin(), p.end());
  for (double min_p : {0.4, 0.6, 0.9}) {
    std::set<TokenId> expected;
    for (TokenId id : Order(logits)) {
      if (p[id] >= min_p * best) expected.insert(id);
    }
    SamplingParams params = Plain();
    params.min_p = min_p;
    EXPECT_EQ(Seen(params, logits), expected) << "min_p " << min_p;
  }
}

// As llama.cpp orders them: a high temperature does not widen what the filters keep.
TEST(Sampler, TemperatureComesAfterTheFilters) {
  const std::vector<float> logits = {0.f, 3.f, 0.4f, 2.9f};
  SamplingParams params = Plain();
  params.min_p = 0.5;
  params.temperature = 50;
  EXPECT_EQ(Seen(params, logits), (std::set<TokenId>{1, 3}));
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  std::vector<float> logits = {4.f, -2.f, 1.f, 0.5f};
  const std::vector<TokenId> history = {2, 0, 0, 1};  // id 2 lies outside the last three
  Sampler sampler({.temperature = 0, .repeat_penalty = 2, .repeat_last_n = 3});
  sampler.Sample(logits, history);
  EXPECT_EQ(logits, (std::vector<float>{2.f, -4.f, 1.f, 0.5f}));  // once, however often a token occurs
}

TEST(Sampler, RepetitionPenaltyChangesTheChoice) {
  Sampler sampler({.temperature = 0, .repeat_penalty = 1.5});
  EXPECT_EQ(SampleOnce(sampler, {3.f, 2.5f}), 0);
  EXPECT_EQ(SampleOnce(sampler, {3.f, 2.5f}, {0}), 1);
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  const std::vector<float> logits = RandomLogits(1000, 3);
  const auto draw = [&](uint64_t seed) {
    Sampler sampler({.seed = seed});
    std::vector<TokenId> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(SampleOnce(sampler, logits));
    return ids;
  };
  EXPECT_EQ(draw(5), draw(5));
  EXPECT_NE(draw(5), draw(6));
}

TEST(Sampler, TheDistributionIsWhatIsDrawn) {
  const std::vector<float> logits = RandomLogits(50, 4);
  Sampler sampler({.temperature = 1.2, .seed = 2});
  std::vector<float> scratch = logits;
  const auto span = sampler.Distribution(scratch, {});
  const std::vector<Candidate> p(span.begin(), span.end());
  ASSERT_GT(p.size(), 5u);
  double sum = 0, chi2 = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    sum += p[i].p;
    EXPECT_GE(p[i == 0 ? 0 : i - 1].p, p[i].p);
  }
  EXPECT_NEAR(sum, 1, 1e-12);
  std::map<TokenId, int> counts;
  for (int i = 0; i < 20000; ++i) ++counts[sampler.Draw(p)];
  for (const Candidate& c : p) {
    const double wanted = 20000 * c.p;
    chi2 += (counts[c.id] - wanted) * (counts[c.id] - wanted) / wanted;
  }
  EXPECT_EQ(counts.size(), p.size());
  EXPECT_LT(chi2, p.size() + 4 * std::sqrt(2.0 * static_cast<double>(p.size())));
}

// One draw says nothing about the next.
TEST(Sampler, DrawsAreIndependent) {
  const std::vector<Candidate> p{{3, 0.5}, {8, 0.3}, {9, 0.2}};
  Sampler sampler({.seed = 11});
  std::map<std::pair<TokenId, TokenId>, int> pairs;
  TokenId last = sampler.Draw(p);
  for (int i = 0; i < 30000; ++i) {
    const TokenId id = sampler.Draw(p);
    ++pairs[{last, id}];
    last = id;
  }
  double chi2 = 0;
  for (const Candidate& a : p) {
    for (const Candidate& b : p) {
      const double wanted = 30000 * a.p * b.p;
      chi2 += (pairs[{a.id, b.id}] - wanted) * (pairs[{a.id, b.id}] - wanted) / wanted;
    }
  }
  EXPECT_LT(chi2, 26.1);  // 99.9 % quantile of chi-square, 8 degrees
}

// What makes a draft model useful: the bound of Daliri et al. 2024, and both distributions kept.
TEST(Sampler, SamplersInTheSameStateTendToAgree) {
  const std::vector<Candidate> p{{1, 0.4}, {2, 0.3}, {5, 0.2}, {7, 0.1}},
      q{{2, 0.5}, {1, 0.25}, {7, 0.15}, {9, 0.1}};
  const double distance = 0.5 * (0.15 + 0.2 + 0.2 + 0.05 + 0.1);
  Sampler target({.seed = 1});
  int agreed = 0;
  std::map<TokenId, int> drawn;
  for (int i = 0; i < 20000; ++i) {
    Sampler drafter = target;
    const TokenId guess = drafter.Draw(q), id = target.Draw(p);
    agreed += guess == id;
    ++drawn[guess];
  }
  EXPECT_GT(agreed / 20000.0, (1 - distance) / (1 + distance) - 0.01);
  EXPECT_LT(agreed / 20000.0, 1 - distance + 0.01);
  for (const Candidate& c : q) EXPECT_NEAR(drawn[c.id] / 20000.0, c.p, 0.015);
}

// What broken weights can give must not become an id outside the vocabulary.
TEST(Sampler, LogitsThatAreNotNumbersStillGiveAToken) {
  const float nan = std::nanf(""), inf = INFINITY;
  for (const std::vector<float>& logits : std::vector<std::vector<float>>{
           {nan, nan, nan}, {-inf, -inf, -inf}, {inf, inf, 1.f}, {1.f, nan, 2.f}, {-inf, 1.f, -inf}}) {
    for (double temperature : {0.0, 1.0}) {
      SamplingParams params;
      params.temperature = temperature;
      Sampler sampler(params);
      for (int i = 0; i < 20; ++i) {
        const TokenId id = SampleOnce(sampler, logits);
        EXPECT_GE(id, 0);
        EXPECT_LT(id, static_cast<TokenId>(logits.size()));
      }
    }
  }
}

}  // namespace
}  // namespace thimble

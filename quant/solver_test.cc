#include "quant/solver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/random.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// Like a model's: sizes that go with bits and weights, costs that fall by about 4 with each bit, and now and
// then one that does not pay.
std::vector<TensorCosts> RandomProblem(Random& random, int n_tensors, int n_choices, uint64_t unit) {
  std::vector<TensorCosts> tensors;
  for (int i = 0; i < n_tensors; ++i) {
    TensorCosts& t = tensors.emplace_back(TensorCosts{"t" + std::to_string(i), {}});
    const double weights = 1 + 20 * random.Uniform(), sensitivity = std::pow(10, -3 * random.Uniform());
    for (int c = 0; c < n_choices; ++c) {
      const double bits = 2 + 6 * random.Uniform();
      const auto bytes = static_cast<uint64_t>(weights * bits) * unit + random.Below(unit);
      t.choices.push_back(
          {WeightType::kQ4_0, bytes, sensitivity * std::pow(4, -bits) * (1 + random.Uniform())});
    }
    std::ranges::stable_sort(t.choices, {}, &TypeCost::bytes);
  }
  return tensors;
}

// Calls `see` with the sums of every combination.
template <typename See>
void Exhaust(std::span<const TensorCosts> tensors, uint64_t bytes, double kld, const See& see) {
  if (tensors.empty()) return see(bytes, kld);
  for (const TypeCost& c : tensors[0].choices) {
    Exhaust(tensors.subspan(1), bytes + c.bytes, kld + c.kld, see);
  }
}

void ExpectSumsRight(std::span<const TensorCosts> tensors, const TypeChoice& choice) {
  ASSERT_EQ(choice.choice.size(), tensors.size());
  uint64_t bytes = 0;
  double kld = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    ASSERT_LT(choice.choice[i], tensors[i].choices.size());
    bytes += tensors[i].choices[choice.choice[i]].bytes;
    kld += tensors[i].choices[choice.choice[i]].kld;
  }
  EXPECT_EQ(choice.bytes, bytes);
  EXPECT_DOUBLE_EQ(choice.kld, kld);
}

uint64_t SumOfSmallest(std::span<const TensorCosts> tensors) {
  uint64_t bytes = 0;
  for (const TensorCosts& t : tensors) bytes += std::ranges::min(t.choices, {}, &TypeCost::bytes).bytes;
  return bytes;
}

TEST(Solver, BestOfABudgetIsNearTheBestThereIs) {
  Random random(1);
  for (int problem = 0; problem < 200; ++problem) {
    SCOPED_TRACE(problem);
    const auto tensors = RandomProblem(random, 1 + static_cast<int>(random.Below(6)),
                                       1 + static_cast<int>(random.Below(5)), problem % 2 == 0 ? 1 : 100'000);
    const uint64_t least = SumOfSmallest(tensors);
    const auto budget = static_cast<uint64_t>(static_cast<double>(least) * (1 + 1.5 * random.Uniform()));
    double best = INFINITY;
    Exhaust(tensors, 0, 0, [&](uint64_t bytes, double kld) {
      if (bytes <= budget) best = std::min(best, kld);
    });
    const auto choice = SolveForBytes(tensors, budget);
    ASSERT_TRUE(choice);
    ExpectSumsRight(tensors, *choice);
    EXPECT_LE(choice->bytes, budget);
    EXPECT_LE(choice->kld, 1.05 * best);
  }
}

TEST(Solver, LeastBytesOfAQualityAreNearTheLeastThereAre) {
  Random random(2);
  for (int problem = 0; problem < 100; ++problem) {
    SCOPED_TRACE(problem);
    const auto tensors = RandomProblem(random, 1 + static_cast<int>(random.Below(6)),
                                       1 + static_cast<int>(random.Below(5)), problem % 2 == 0 ? 1 : 100'000);
    double lowest = INFINITY;
    Exhaust(tensors, 0, 0, [&](uint64_t, double kld) { lowest = std::min(lowest, kld); });
    const double allowed = lowest * (1.001 + 10 * random.Uniform());
    uint64_t least = UINT64_MAX;
    Exhaust(tensors, 0, 0, [&](uint64_t bytes, double kld) {
      if (kld <= allowed) least = std::min(least, bytes);
    });
    const auto choice = SolveForKld(tensors, allowed);
    ASSERT_TRUE(choice);
    ExpectSumsRight(tensors, *choice);
    EXPECT_LE(choice->kld, allowed);
    EXPECT_LE(static_cast<double>(choice->bytes), 1.05 * static_cast<double>(least));
  }
}

TEST(Solver, ABudgetIsUsedToTheByte) {
  const std::vector<TensorCosts> tensors = {
      {"a", {{WeightType::kQ4_0, 100, 1}, {WeightType::kQ8_0, 200, 0.1}}},
      {"b", {{WeightType::kQ4_0, 10, 0.5}, {WeightType::kQ8_0, 20, 0.2}}}};
  EXPECT_EQ(SolveForBytes(tensors, 110)->choice, (std::vector<size_t>{0, 0}));
  EXPECT_EQ(SolveForBytes(tensors, 119)->choice, (std::vector<size_t>{0, 0}));
  EXPECT_EQ(SolveForBytes(tensors, 120)->choice, (std::vector<size_t>{0, 1}));
  EXPECT_EQ(SolveForBytes(tensors, 210)->choice, (std::vector<size_t>{1, 0}));
  EXPECT_EQ(SolveForBytes(tensors, 220)->choice, (std::vector<size_t>{1, 1}));
  EXPECT_EQ(SolveForBytes(tensors, UINT64_MAX)->choice, (std::vector<size_t>{1, 1}));
  EXPECT_EQ(SolveForKld(tensors, 1.5)->bytes, 110u);
  EXPECT_EQ(SolveForKld(tensors, 1.4)->bytes, 120u);
  EXPECT_EQ(SolveForKld(tensors, 0.31)->bytes, 220u);
}

TEST(Solver, WhatCannotBeIsAnError) {
  const std::vector<TensorCosts> tensors = {
      {"a", {{WeightType::kQ4_0, 100, 1}, {WeightType::kQ8_0, 200, 0.1}}}};
  const auto bytes = SolveForBytes(tensors, 99);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(bytes.error().message, HasSubstr("100 bytes, the budget leaves 99"));
  const auto kld = SolveForKld(tensors, 0.09);
  ASSERT_FALSE(kld);
  EXPECT_EQ(kld.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(kld.error().message, HasSubstr("0.1000"));
}

TEST(Solver, TheFrontRisesInBytesAndFallsInCost) {
  Random random(3);
  for (int problem = 0; problem < 5; ++problem) {
    SCOPED_TRACE(problem);
    const auto tensors = RandomProblem(random, 30, 8, 1000);
    const auto front = ParetoFront(tensors, 12);
    ASSERT_GT(front.size(), 6u);
    EXPECT_EQ(front.front().bytes, SumOfSmallest(tensors));
    double lowest = 0;
    for (const TensorCosts& t : tensors) lowest += std::ranges::min(t.choices, {}, &TypeCost::kld).kld;
    EXPECT_NEAR(front.back().kld, lowest, 1e-9);
    for (size_t i = 1; i < front.size(); ++i) {
      ExpectSumsRight(tensors, front[i]);
      EXPECT_GT(front[i].bytes, front[i - 1].bytes);
      EXPECT_LT(front[i].kld, front[i - 1].kld);
    }
  }
}

// A model's size: 270 tensors of 17 types. More bytes never cost quality, and the budget is used.
TEST(Solver, LargeProblems) {
  Random random(4);
  const auto tensors = RandomProblem(random, 270, 17, 3000);
  const uint64_t least = SumOfSmallest(tensors);
  double before = INFINITY;
  for (const double factor : {1.0, 1.1, 1.3, 1.7, 2.2}) {
    const auto budget = static_cast<uint64_t>(static_cast<double>(least) * factor);
    const auto choice = SolveForBytes(tensors, budget);
    ASSERT_TRUE(choice);
    EXPECT_LE(choice->bytes, budget);
    EXPECT_GT(static_cast<double>(choice->bytes), 0.995 * static_cast<double>(budget));
    EXPECT_LT(choice->kld, before);
    before = choice->kld;
  }
}

}  // namespace
}  // namespace thimble

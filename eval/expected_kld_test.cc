#include "eval/expected_kld.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace thimble {
namespace {

using enum WeightType;

// Two layers of two kinds, each in 4 or 8 bits.
ExpectedKld TwoKinds() {
  std::vector<TensorCosts> costs;
  for (const char* name : {"blk.0.a.weight", "blk.0.b.weight", "blk.11.a.weight", "blk.11.b.weight"}) {
    const double kld = name[4] == '0' ? 0.01 : 0.02;
    costs.push_back({name, {{kQ4_0, 100, kld}, {kQ8_0, 200, 0.0}}});
  }
  return ExpectedKld(std::move(costs));
}

TEST(ExpectedKld, KindsAreNamesWithoutLayers) {
  EXPECT_EQ(KindOf("blk.0.attn_q.weight"), "attn_q.weight");
  EXPECT_EQ(KindOf("blk.123.attn_q.weight"), "attn_q.weight");
  EXPECT_EQ(KindOf("output.weight"), "output.weight");
}

TEST(ExpectedKld, IsTheSumOfCostsBeforeAnythingIsMeasured) {
  const ExpectedKld expected = TwoKinds();
  EXPECT_DOUBLE_EQ(expected.Sum({0, 0, 1, 0}), 0.04);
  EXPECT_EQ(expected.Shares({0, 0, 1, 0}), (std::vector<double>{0.01, 0.01, 0, 0.02}));
  EXPECT_DOUBLE_EQ(expected.Of(0.04), 0.04);
  EXPECT_EQ(expected.Finest().choice, (std::vector<size_t>{1, 1, 1, 1}));
  EXPECT_EQ(expected.Finest().bytes, 800u);
  EXPECT_EQ(expected.Coarse(0.1)->bytes, 400u);
}

// A true divergence of squares and a product: x^2 + y^2 + 2 c x y, where x and y are the kinds' errors. What
// x^2 was said to cost is twice too much.
TEST(ExpectedKld, IsExactWhereErrorsMeetInPairs) {
  ExpectedKld expected = TwoKinds();
  const double x2 = 0.5 * 0.03, y2 = 0.03, c = -0.4;
  const double together = x2 + y2 + 2 * c * std::sqrt(x2 * y2);
  expected.SetKinds(*expected.Coarse(0.1), {{"a.weight", {x2 / 0.03, (together - y2) / 0.03}},
                                            {"b.weight", {y2 / 0.03, (together - x2) / 0.03}}});
  EXPECT_NEAR(expected.Sum({0, 0, 0, 0}), together, 1e-12);
  EXPECT_EQ(expected.Sum({1, 1, 1, 1}), 0);
}

TEST(ExpectedKld, WhatIsCheaperThanItsCostIsMadeSmaller) {
  ExpectedKld expected = TwoKinds();
  EXPECT_EQ(expected.SolveForBytes(600)->choice[2], 1u);  // the second layer is the dear one
  EXPECT_EQ(expected.SolveForBytes(600)->choice[3], 1u);
  expected.SetKinds(*expected.Coarse(0.1), {{"a.weight", {0.1, 0.1}}, {"b.weight", {1, 1}}});
  EXPECT_EQ(expected.SolveForBytes(600)->choice, (std::vector<size_t>{0, 1, 0, 1}));
  EXPECT_NEAR(expected.SolveForBytes(600)->kld, 0.003, 1e-12);
  EXPECT_EQ(expected.SolveForKld(0.0031)->choice, (std::vector<size_t>{0, 1, 0, 1}));
  EXPECT_FALSE(expected.SolveForBytes(399));
}

TEST(ExpectedKld, FactorsGoFromTheFineEndToTheCoarse) {
  ExpectedKld expected = TwoKinds();
  expected.SetKinds(*expected.Coarse(0.1), {{"a.weight", {0.1, 1}}, {"b.weight", {1, 0.1}}});
  // With little rounded a is the cheap kind, with nearly all rounded b is.
  EXPECT_EQ(expected.SolveForBytes(700)->choice, (std::vector<size_t>{0, 1, 1, 1}));
  EXPECT_EQ(expected.SolveForBytes(500)->choice, (std::vector<size_t>{0, 0, 1, 0}));
  const std::vector<double> shares = expected.Shares({0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(shares[0], 0.01 * 0.55);
  EXPECT_DOUBLE_EQ(shares[1], 0.01 * 0.55);
}

TEST(ExpectedKld, FollowsWhatWasMeasured) {
  ExpectedKld expected = TwoKinds();
  expected.SetMeasured({{0.04, 0.02}, {0.01, 0.01}});
  EXPECT_DOUBLE_EQ(expected.Of(0.01), 0.01);
  EXPECT_DOUBLE_EQ(expected.Of(0.04), 0.02);
  EXPECT_NEAR(expected.Of(0.02), std::sqrt(0.0002), 1e-12);
  EXPECT_DOUBLE_EQ(expected.Of(0.005), 0.005);
  EXPECT_DOUBLE_EQ(expected.Of(0.08), 0.04);
  EXPECT_EQ(expected.SolveForKld(0.0200001)->bytes, 500u);  // sums to 0.04 at most: one 0.02 is let be
  expected.SetMeasured({{0.01, 0.01}, {0.04, 0.009}});      // noise
  EXPECT_GT(expected.Of(0.04), expected.Of(0.01));
}

TEST(ExpectedKld, ComesBackFromJson) {
  ExpectedKld expected = TwoKinds();
  expected.SetKinds(*expected.Coarse(0.1), {{"a.weight", {0.1, 1}}});
  expected.SetMeasured({{0.04, 0.02}});
  const ExpectedKld again = ExpectedKld::FromJson(expected.ToJson());
  EXPECT_EQ(again.ToJson(), expected.ToJson());
  EXPECT_EQ(again.Shares({0, 0, 1, 0}), expected.Shares({0, 0, 1, 0}));
  EXPECT_EQ(again.Of(0.03), expected.Of(0.03));
  EXPECT_ANY_THROW(ExpectedKld::FromJson(Json::object()));
}

}  // namespace
}  // namespace thimble

#include "eval/interval.h"

#include <gtest/gtest.h>

#include <vector>

namespace thimble {
namespace {

// Newcombe 1998 (Statistics in Medicine 17), table I, method 3.
TEST(WilsonInterval, IsThatOfTheLiterature) {
  const auto expect = [](int64_t k, int64_t n, double low, double high) {
    const Interval interval = WilsonInterval(k, n);
    EXPECT_NEAR(interval.low, low, 5e-5) << k << " of " << n;
    EXPECT_NEAR(interval.high, high, 5e-5) << k << " of " << n;
  };
  expect(81, 263, 0.2553, 0.3662);
  expect(15, 148, 0.0624, 0.1605);
  expect(0, 20, 0, 0.1611);
  expect(1, 29, 0.0061, 0.1718);
}

TEST(WilsonInterval, AllRightAndAllWrongMirrorEachOther) {
  EXPECT_NEAR(WilsonInterval(20, 20).low, 1 - WilsonInterval(0, 20).high, 1e-12);
  EXPECT_EQ(WilsonInterval(20, 20).high, 1);
}

// Tables of Student's t, two-sided 5 % (Fisher and Yates 1963, table III).
TEST(StudentQuantile, IsThatOfTheTables) {
  for (const auto& [v, t] : std::vector<std::pair<int64_t, double>>{
           {1, 12.706}, {2, 4.303}, {4, 2.776}, {5, 2.571}, {10, 2.228}, {30, 2.042}, {120, 1.980}}) {
    EXPECT_NEAR(StudentQuantile(v), t, 1e-3 * t) << v;
  }
  EXPECT_NEAR(StudentQuantile(3), 3.182, 0.0015 * 3.182);
}

// Student's own data (1908): hours of sleep gained by two drugs, ten patients; the difference's 95 % interval
// is known from every statistics package (R: t.test(extra ~ group, paired)).
TEST(MeanDifference, IsPaired) {
  const std::vector<double> a = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
  const std::vector<double> b = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
  const Mean mean = MeanDifference(a, b);
  EXPECT_NEAR(mean.value, 1.58, 1e-12);
  EXPECT_NEAR(mean.error, 1.58 / 4.0621, 1e-4);
  ASSERT_TRUE(mean.interval);
  EXPECT_NEAR(mean.interval->low, 0.7001142, 1e-4);
  EXPECT_NEAR(mean.interval->high, 2.4598858, 1e-4);
  // Without pairs, the same means cannot be told apart.
  EXPECT_LT(MeanOf(b).interval->low, MeanOf(a).interval->high);
}

TEST(MeanOf, OneValueHasNoInterval) {
  const std::vector<double> one = {3};
  EXPECT_EQ(MeanOf(one).value, 3);
  EXPECT_FALSE(MeanOf(one).interval);
}

}  // namespace
}  // namespace thimble

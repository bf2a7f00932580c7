// Rounding with feedback: what each tier returns is checked against the definition in kernels.h.
#include <cmath>

#include "kernels/test_support.h"

namespace thimble {
namespace {

constexpr float kValues[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr RoundGrid kGrids[] = {
    {-8, 7, nullptr, 0}, {0, 3, nullptr, 0}, {-127, 127, nullptr, 0}, {-127, 113, kValues, 16}};

struct Problem {
  int n;
  std::vector<float> x, w, feedback, diagonal, scale, min;
  RoundFactor factor;

  Problem(int columns, int64_t ld, const RoundGrid& grid) : n(columns) {
    const size_t cells = static_cast<size_t>(n) * kRoundRows;
    w = RandomFloats(cells, 1);
    x = RandomFloats(cells, 2, 0.1f);
    for (size_t i = 0; i < cells; ++i) x[i] += w[i];
    feedback = RandomFloats(static_cast<size_t>(n * ld), 3, 0.2f);
    diagonal = RandomFloats(static_cast<size_t>(n), 4);
    for (float& d : diagonal) d = 0.5f + std::fabs(d);
    scale = RandomFloats(kRoundRows, 5, 0.2f);
    for (float& s : scale) s += s > 0 ? 0.05f : -0.05f;
    for (float& s : scale) s *= 8 / (grid.highest - grid.lowest);
    scale[7] = 0;
    min = RandomFloats(kRoundRows, 6, 0.3f);
    factor = {feedback.data(), ld, diagonal.data()};
  }
  double Feedback(const std::vector<float>& e, int i, int row) const {
    double t = x[static_cast<size_t>(i * kRoundRows + row)];
    for (int j = 0; j < i; ++j) {
      t += static_cast<double>(e[static_cast<size_t>(j * kRoundRows + row)]) *
           feedback[static_cast<size_t>(i * factor.ld + j)];
    }
    return t;
  }
};

bool IsPoint(const RoundGrid& grid, float point) {
  if (grid.n_values == 0) return point == std::round(point) && point >= grid.lowest && point <= grid.highest;
  return std::find(grid.values, grid.values + grid.n_values, point) != grid.values + grid.n_values;
}

// Of t / scale from the nearest point.
double LeastDistance(const RoundGrid& grid, double t) {
  if (grid.n_values == 0) {
    return std::fabs(t - std::nearbyint(std::clamp<double>(t, grid.lowest, grid.highest)));
  }
  double least = INFINITY;
  for (int i = 0; i < grid.n_values; ++i) least = std::min(least, std::fabs(t - grid.values[i]));
  return least;
}

class RoundTest : public KernelsTest {};

TEST_P(RoundTest, EachColumnIsNearestToItselfAndTheFeedback) {
  for (const RoundGrid& grid : kGrids) {
    for (const int n : {1, 2, 3, 16, 31, 32}) {
      SCOPED_TRACE(testing::Message() << "n " << n << ", points up to " << grid.highest);
      const Problem p(n, n + 5, grid);
      std::vector<float> points(p.w.size() + 1, 99.0f), errors(p.w.size() + 1, 99.0f), cost(kRoundRows);
      kernels_.round_block(&grid, n, p.x.data(), p.w.data(), &p.factor, p.scale.data(), p.min.data(),
                           points.data(), errors.data(), cost.data());
      for (int row = 0; row < kRoundRows; ++row) {
        const double s = p.scale[static_cast<size_t>(row)], m = p.min[static_cast<size_t>(row)];
        double sum = 0;
        for (int i = 0; i < n; ++i) {
          const size_t at = static_cast<size_t>(i * kRoundRows + row);
          ASSERT_TRUE(IsPoint(grid, points[at])) << points[at];
          const double value = s * points[at] + m, t = p.Feedback(errors, i, row);
          ASSERT_NEAR(errors[at], p.w[at] - value, 1e-5);
          const double wanted = s != 0 ? (t - m) / s : 0;
          ASSERT_NEAR(std::fabs(wanted - points[at]), LeastDistance(grid, wanted), 1e-3);
          sum += std::pow(p.diagonal[static_cast<size_t>(i)] * (t - value), 2);
        }
        ASSERT_NEAR(cost[static_cast<size_t>(row)], sum, 1e-4 * (sum + 1));
      }
      EXPECT_EQ(points.back(), 99.0f);
      EXPECT_EQ(errors.back(), 99.0f);
    }
  }
}

TEST_P(RoundTest, WhitenedErrorsGiveTheCost) {
  for (const int n : {1, 5, 32}) {
    const Problem p(n, n, kGrids[0]);
    std::vector<float> points(p.w.size()), errors(p.w.size()), cost(kRoundRows), difference(p.w.size()),
        whitened(p.w.size() + 1, 99.0f);
    kernels_.round_block(&kGrids[0], n, p.x.data(), p.w.data(), &p.factor, p.scale.data(), p.min.data(),
                         points.data(), errors.data(), cost.data());
    // x - value = (x - w) + error
    for (size_t i = 0; i < errors.size(); ++i) difference[i] = p.x[i] - p.w[i] + errors[i];
    kernels_.whiten_block(n, difference.data(), errors.data(), &p.factor, whitened.data());
    for (size_t row = 0; row < kRoundRows; ++row) {
      double sum = 0;
      for (size_t i = row; i < errors.size(); i += kRoundRows) sum += std::pow(whitened[i], 2);
      ASSERT_NEAR(cost[row], sum, 1e-4 * (sum + 1));
    }
    EXPECT_EQ(whitened.back(), 99.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, RoundTest, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

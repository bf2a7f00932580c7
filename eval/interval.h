// 95 % intervals.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace thimble {

struct Interval {
  double low, high;
};

// Of a share: Wilson's (Wilson 1927).
Interval WilsonInterval(int64_t n_correct, int64_t n);

// The 97.5 % quantile of Student's t; at least 1 degree of freedom.
double StudentQuantile(int64_t degrees_of_freedom);

struct Mean {
  double value = 0;
  double error = 0;                       // standard
  std::optional<Interval> interval = {};  // Student's; of at least two values
};
// Of independent values, at least one.
Mean MeanOf(std::span<const double> values);
// Of the differences b[i] - a[i] of values that belong together, such as two models' scores of one window:
// what is hard or easy for both cancels out. Sizes are equal (CHECKed).
Mean MeanDifference(std::span<const double> a, std::span<const double> b);

}  // namespace thimble

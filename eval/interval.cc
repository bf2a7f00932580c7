#include "eval/interval.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace thimble {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;

}  // namespace

Interval WilsonInterval(int64_t n_correct, int64_t n) {
  constexpr double z = kNormalQuantile;
  const double count = static_cast<double>(n), p = static_cast<double>(n_correct) / count;
  const double center = (p + z * z / (2 * count)) / (1 + z * z / count);
  const double half = z / (1 + z * z / count) * std::sqrt(p * (1 - p) / count + z * z / (4 * count * count));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

// Exact for 1 and 2 degrees; else Abramowitz and Stegun 26.7.5, within 0.15 %.
double StudentQuantile(int64_t degrees_of_freedom) {
  if (degrees_of_freedom == 1) return std::tan(M_PI * 0.475);
  if (degrees_of_freedom == 2) return 0.95 / std::sqrt(2 * 0.975 * 0.025);
  const double z = kNormalQuantile, z2 = z * z, v = static_cast<double>(degrees_of_freedom);
  return z + z * (z2 + 1) / (4 * v) + z * ((5 * z2 + 16) * z2 + 3) / (96 * v * v) +
         z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * v * v * v) +
         z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / (92160 * v * v * v * v);
}

Mean MeanOf(std::span<const double> values) {
  const double n = static_cast<double>(values.size());
  Mean mean;
  for (double x : values) mean.value += x / n;
  if (values.size() < 2) return mean;
  double squares = 0;
  for (double x : values) squares += (x - mean.value) * (x - mean.value);
  mean.error = std::sqrt(squares / (n - 1) / n);
  const double half = StudentQuantile(static_cast<int64_t>(values.size()) - 1) * mean.error;
  mean.interval = {mean.value - half, mean.value + half};
  return mean;
}

Mean MeanDifference(std::span<const double> a, std::span<const double> b) {
  CHECK(a.size() == b.size());
  std::vector<double> differences(a.size());
  for (size_t i = 0; i < a.size(); ++i) differences[i] = b[i] - a[i];
  return MeanOf(differences);
}

}  // namespace thimble

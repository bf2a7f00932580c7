#include "train/low_rank.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/random.h"

namespace thimble {
namespace {

Tensor Normal(int64_t rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  Tensor t = Tensor::Empty(rows, cols);
  for (int64_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(random.Normal());
  return t;
}

Tensor Product(const Tensor& b, const Tensor& a) {
  Tensor m = Tensor::Zeros(b.rows(), a.cols());
  for (int64_t i = 0; i < m.rows(); ++i) {
    for (int64_t k = 0; k < a.rows(); ++k) {
      for (int64_t j = 0; j < m.cols(); ++j) m.row(i)[j] += b.row(i)[k] * a.row(k)[j];
    }
  }
  return m;
}

// |diag(row_roots) (m - B A) C|^2
double Left(const Tensor& m, const LowRank& found, const ErrorNorm& norm) {
  Tensor error = Product(found.b, found.a);
  for (int64_t i = 0; i < m.size(); ++i) error.data()[i] = m.data()[i] - error.data()[i];
  if (norm.input_factor) error = Product(error, norm.input_factor);
  double sum = 0;
  for (int64_t i = 0; i < error.rows(); ++i) {
    const double root = norm.row_roots ? norm.row_roots.data()[i] : 1;
    for (int64_t j = 0; j < error.cols(); ++j) sum += std::pow(root * error.row(i)[j], 2);
  }
  return sum;
}

ErrorNorm SomeNorm(int64_t rows, int64_t cols) {
  ErrorNorm norm{Normal(1, rows, 5), Normal(cols, cols, 6)};
  for (int64_t i = 0; i < rows; ++i) norm.row_roots.data()[i] = std::exp(norm.row_roots.data()[i]);
  for (int64_t i = 0; i < cols; ++i) {
    std::fill_n(norm.input_factor.row(i), i, 0.0f);
    norm.input_factor.row(i)[i] = 2 + std::fabs(norm.input_factor.row(i)[i]);
  }
  return norm;
}

TEST(LowRankTest, AMatrixOfThatRankIsFound) {
  const Tensor m = Product(Normal(40, 3, 1), Normal(3, 28, 2));
  for (const ErrorNorm& norm : {ErrorNorm{}, SomeNorm(40, 28)}) {
    const LowRank found = NearestLowRank(m, 3, norm);
    EXPECT_NEAR(found.captured, 1, 1e-4);
    const Tensor back = Product(found.b, found.a);
    for (int64_t i = 0; i < m.size(); ++i) EXPECT_NEAR(back.data()[i], m.data()[i], 2e-3);
  }
}

// Of diag(4, 3, 2, 1, ...), rotated by nothing: the largest of its entries.
TEST(LowRankTest, TheLargestSingularValuesGo) {
  Tensor m = Tensor::Zeros(20, 30);
  double total = 0;
  for (int64_t i = 0; i < 20; ++i) {
    m.row(i)[(i * 7) % 30] = static_cast<float>(20 - i);
    total += std::pow(20 - i, 2);
  }
  const LowRank found = NearestLowRank(m, 2);
  EXPECT_NEAR(found.captured, (400 + 361) / total, 1e-3);
  EXPECT_NEAR(Left(m, found, {}), total - 761, 1e-3 * total);
  double a_squares = 0, b_squares = 0;
  for (int64_t i = 0; i < found.a.size(); ++i) a_squares += std::pow(found.a.data()[i], 2);
  for (int64_t i = 0; i < found.b.size(); ++i) b_squares += std::pow(found.b.data()[i], 2);
  EXPECT_NEAR(a_squares, 39, 0.1);
  EXPECT_NEAR(b_squares, 39, 0.1);
}

// No other factors near by do better in the norm that is asked for, and what is reported is what is left.
TEST(LowRankTest, TheNormDecides) {
  const Tensor m = Normal(36, 24, 3);
  const ErrorNorm norm = SomeNorm(36, 24);
  const LowRank found = NearestLowRank(m, 4, norm);
  const double left = Left(m, found, norm);
  const LowRank nothing{Tensor::Zeros(4, 24), Tensor::Zeros(36, 4)};
  EXPECT_NEAR(left / Left(m, nothing, norm), 1 - found.captured, 1e-3);
  EXPECT_LT(left, Left(m, NearestLowRank(m, 4), norm));
  Random random(4);
  for (int trial = 0; trial < 20; ++trial) {
    LowRank other{Normal(4, 24, random.Next()), Normal(36, 4, random.Next())};
    for (int64_t i = 0; i < other.a.size(); ++i)
      other.a.data()[i] = found.a.data()[i] + 0.05f * other.a.data()[i];
    for (int64_t i = 0; i < other.b.size(); ++i)
      other.b.data()[i] = found.b.data()[i] + 0.05f * other.b.data()[i];
    EXPECT_GT(Left(m, other, norm), left);
  }
}

}  // namespace
}  // namespace thimble

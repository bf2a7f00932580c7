#include "train/low_rank.h"

#include <Eigen/Dense>
#include <cmath>

#include "base/check.h"
#include "base/random.h"

namespace thimble {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<const Matrix>;

constexpr int64_t kOversampling = 8;
constexpr int kIterations = 4;  // residuals of rounding have nearly equal singular values

View ViewOf(const Tensor& t) {
  return {t.data(), t.rows(), t.cols()};
}

Tensor TensorOf(const Matrix& m) {
  Tensor t = Tensor::Empty(m.rows(), m.cols());
  Eigen::Map<Matrix>(t.data(), m.rows(), m.cols()) = m;
  return t;
}

// An orthonormal basis of the columns.
Matrix Basis(const Matrix& columns) {
  const Eigen::HouseholderQR<Matrix> qr(columns);
  return qr.householderQ() * Matrix::Identity(columns.rows(), columns.cols());
}

// diag(row_roots) m C, which is not formed.
class Weighted {
 private:  // first, for their types are deduced
  Eigen::Map<const Eigen::VectorXf> RowRoots() const { return {norm_.row_roots.data(), m_.rows()}; }
  auto Factor() const { return factor_view_.triangularView<Eigen::Upper>(); }

  auto FactorTransposed() const { return factor_view_.transpose().triangularView<Eigen::Lower>(); }

 public:
  Weighted(const Tensor& m, const ErrorNorm& norm) : m_(m), norm_(norm) {}

  Matrix Times(const Matrix& x) const {
    Matrix y = norm_.input_factor ? Matrix(ViewOf(m_) * (Factor() * x)) : Matrix(ViewOf(m_) * x);
    if (norm_.row_roots) y = RowRoots().asDiagonal() * y;
    return y;
  }
  Matrix TransposeTimes(const Matrix& y) const {
    const Matrix x = norm_.row_roots ? Matrix(ViewOf(m_).transpose() * (RowRoots().asDiagonal() * y))
                                     : Matrix(ViewOf(m_).transpose() * y);
    return norm_.input_factor ? Matrix(FactorTransposed() * x) : x;
  }
  double SquaredNorm() const {
    double sum = 0;
    constexpr int64_t kRows = 64;
    for (int64_t i = 0; i < m_.rows(); i += kRows) {
      const int64_t n = std::min(kRows, m_.rows() - i);
      Matrix rows = ViewOf(m_).middleRows(i, n);
      if (norm_.input_factor) rows = rows * Factor();
      if (norm_.row_roots) rows = RowRoots().segment(i, n).asDiagonal() * rows;
      sum += static_cast<double>(rows.squaredNorm());
    }
    return sum;
  }
  // b / row_roots, and a C^-1.
  Matrix RowsBack(const Matrix& b) const {
    return norm_.row_roots ? Matrix(RowRoots().cwiseInverse().asDiagonal() * b) : b;
  }
  Matrix InputsBack(const Matrix& a) const {
    if (!norm_.input_factor) return a;
    return FactorTransposed().solve(a.transpose()).transpose();
  }

 private:
  const Tensor& m_;
  const ErrorNorm& norm_;
  const View factor_view_ = norm_.input_factor ? ViewOf(norm_.input_factor) : View(nullptr, 0, 0);
};

}  // namespace

LowRank NearestLowRank(const Tensor& m, int64_t rank, const ErrorNorm& norm) {
  CHECK(rank >= 1 && rank < std::min(m.rows(), m.cols()));
  const Weighted weighted(m, norm);
  const int64_t width = std::min(rank + kOversampling, std::min(m.rows(), m.cols()));
  Random random(1);
  Matrix right = Matrix::NullaryExpr(m.cols(), width, [&] { return static_cast<float>(random.Normal()); });
  Matrix left;
  for (int i = 0; i < kIterations; ++i) {
    left = Basis(weighted.Times(right));
    right = weighted.TransposeTimes(left);  // of the last round: (left^T diag(row_roots) m C)^T
    if (i + 1 < kIterations) right = Basis(right);
  }
  const Eigen::JacobiSVD<Eigen::MatrixXf> svd(right, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXf roots = svd.singularValues().head(rank).cwiseSqrt();
  const Matrix b = (left * svd.matrixV().leftCols(rank)) * roots.asDiagonal();
  const Matrix a = roots.asDiagonal() * svd.matrixU().leftCols(rank).transpose();
  const double total = weighted.SquaredNorm();
  const double taken = static_cast<double>(svd.singularValues().head(rank).squaredNorm());
  return {TensorOf(weighted.InputsBack(a)), TensorOf(weighted.RowsBack(b)), total > 0 ? taken / total : 0};
}

}  // namespace thimble

#include <cmath>

#include "kernels/test_support.h"

namespace thimble {
namespace {

enum class Form { kNt, kNn, kTn };

struct Shape {
  int64_t m, n, k;
};

// Multiplies random matrices with gaps between the rows, and compares with sums in double precision. The
// bound is that of k additions in any order, with each product rounded: (k + 1) * 2^-24 * sum |a||b|, and 2
// for c itself.
void CheckGemm(const KernelTable& kernels, Form form, Shape shape, bool accumulate, int64_t gap) {
  const auto [m, n, k] = shape;
  SCOPED_TRACE(testing::Message() << "form " << static_cast<int>(form) << " m=" << m << " n=" << n
                                  << " k=" << k << " accumulate=" << accumulate << " gap=" << gap);
  const int64_t a_rows = form == Form::kTn ? k : m;
  const int64_t b_rows = form == Form::kNt ? n : k;
  const int64_t lda = (form == Form::kTn ? m : k) + gap;
  const int64_t ldb = (form == Form::kNt ? k : n) + gap;
  const int64_t ldc = n + gap;
  const std::vector<float> a = RandomFloats(static_cast<size_t>(a_rows * lda - gap), 1);
  const std::vector<float> b = RandomFloats(static_cast<size_t>(b_rows * ldb - gap), 2);
  const std::vector<float> before = RandomFloats(static_cast<size_t>(m * ldc), 3);
  std::vector<float> c = before;
  const auto gemm = form == Form::kNt   ? kernels.gemm_nt
                    : form == Form::kNn ? kernels.gemm_nn
                                        : kernels.gemm_tn;
  gemm(m, n, k, a.data(), lda, b.data(), ldb, c.data(), ldc, accumulate);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      const float was = before[static_cast<size_t>(i * ldc + j)];
      const float is = c[static_cast<size_t>(i * ldc + j)];
      if (j >= n) {
        ASSERT_EQ(is, was) << "wrote outside the matrix at row " << i << " column " << j;
        continue;
      }
      double sum = accumulate ? was : 0;
      double magnitude = std::fabs(sum);
      for (int64_t p = 0; p < k; ++p) {
        const double x = a[static_cast<size_t>(form == Form::kTn ? p * lda + i : i * lda + p)];
        const double y = b[static_cast<size_t>(form == Form::kNt ? j * ldb + p : p * ldb + j)];
        sum += x * y;
        magnitude += std::fabs(x * y);
      }
      ASSERT_NEAR(is, sum, 0x1p-24 * static_cast<double>(k + 3) * magnitude)
          << "row " << i << " column " << j;
    }
  }
}

class GemmTest : public KernelsTest {};

TEST_P(GemmTest, SmallShapes) {
  const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64};
  for (Form form : {Form::kNt, Form::kNn, Form::kTn}) {
    for (int64_t m : sizes) {
      for (int64_t n : sizes) {
        for (int64_t k : {1, 2, 7, 8, 15, 16, 17, 33})
          CheckGemm(kernels_, form, {m, n, k}, (m + n + k) % 2 == 0, 3);
      }
    }
  }
}

TEST_P(GemmTest, ShapesAcrossBlocks) {
  const Shape shapes[] = {{100, 33, 577}, {15, 300, 64}, {1, 577, 100},  {2, 100, 577},
                          {3, 257, 330},  {8, 64, 577},  {9, 64, 577},   {64, 8, 577},
                          {64, 577, 8},   {33, 3, 640},  {29, 1, 330},   {17, 600, 321},
                          {14, 256, 320}, {6, 48, 400},  {577, 17, 100}, {4, 64, 65}};
  for (Form form : {Form::kNt, Form::kNn, Form::kTn}) {
    for (const Shape& shape : shapes) {
      for (bool accumulate : {false, true}) CheckGemm(kernels_, form, shape, accumulate, accumulate ? 0 : 5);
    }
  }
}

TEST_P(GemmTest, EmptyDepthClearsOrKeeps) {
  for (const auto gemm : {kernels_.gemm_nt, kernels_.gemm_nn, kernels_.gemm_tn}) {
    std::vector<float> c(6, 4.0f);
    gemm(2, 3, 0, nullptr, 0, nullptr, 0, c.data(), 3, true);
    EXPECT_EQ(c, std::vector<float>(6, 4.0f));
    gemm(2, 3, 0, nullptr, 0, nullptr, 0, c.data(), 3, false);
    EXPECT_EQ(c, std::vector<float>(6, 0.0f));
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, GemmTest, testing::ValuesIn(AllTiers()), TierName);

}  // namespace
}  // namespace thimble

// Plain loops: the reference of every tier.
#include "kernels/tiers.h"

namespace thimble::ref {
namespace {

// c[i, j] (+)= sum over p of a(i, p) * b(p, j), where element (r, s) of a lies at a[r * row + s * column].
struct Strides {
  int64_t row;
  int64_t column;
};

void Gemm(int64_t m, int64_t n, int64_t k, const float* a, Strides as, const float* b, Strides bs, float* c,
          int64_t ldc, bool accumulate) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = accumulate ? c[i * ldc + j] : 0.0f;
      for (int64_t p = 0; p < k; ++p) {
        sum += a[i * as.row + p * as.column] * b[p * bs.row + j * bs.column];
      }
      c[i * ldc + j] = sum;
    }
  }
}

void GemmNt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            float* c, int64_t ldc, bool accumulate) {
  Gemm(m, n, k, a, {lda, 1}, b, {1, ldb}, c, ldc, accumulate);
}

void GemmNn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            float* c, int64_t ldc, bool accumulate) {
  Gemm(m, n, k, a, {lda, 1}, b, {ldb, 1}, c, ldc, accumulate);
}

void GemmTn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            float* c, int64_t ldc, bool accumulate) {
  Gemm(m, n, k, a, {1, lda}, b, {ldb, 1}, c, ldc, accumulate);
}

}  // namespace

void FillGemm(KernelTable* table) {
  table->gemm_nt = GemmNt;
  table->gemm_nn = GemmNn;
  table->gemm_tn = GemmTn;
}

}  // namespace thimble::ref

#include "ops/prepend.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace thimble {
namespace {

void AddRows(const KernelTable& kernels, const float* from, int64_t from_stride, float* to, int64_t to_stride,
             int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) kernels.axpy(1, from + i * from_stride, to + i * to_stride, cols);
}

int64_t Sum(std::span<const int64_t> lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

}  // namespace

Tensor Prepend(const Context& ctx, const Tensor& x, std::span<const int64_t> lengths, const Tensor& head,
               int64_t first_column) {
  const int64_t n = head.rows(), cols = x.cols();
  CHECK(Sum(lengths) == x.rows() && first_column + cols <= head.cols());
  const Tensor y = Tensor::Empty(x.rows() + n * static_cast<int64_t>(lengths.size()), cols);
  int64_t from = 0, to = 0;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < n; ++i) std::copy_n(head.row(i) + first_column, cols, y.row(to + i));
    std::copy_n(x.row(from), length * cols, y.row(to + n));
    from += length;
    to += n + length;
  }
  if (!ctx.Records({x, head})) return y;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, x, head, y, first_column, lengths = std::vector(lengths.begin(), lengths.end())] {
    const int64_t n = head.rows(), cols = x.cols();
    int64_t from = 0, to = 0;
    for (const int64_t length : lengths) {
      const float* dy = y.grad() + to * cols;
      if (head.requires_grad()) {
        AddRows(ctx.kernels, dy, cols, head.grad() + first_column, head.cols(), n, cols);
      }
      if (x.requires_grad()) {
        AddRows(ctx.kernels, dy + n * cols, cols, x.grad() + from * cols, cols, length, cols);
      }
      from += length;
      to += n + length;
    }
  });
  return y;
}

Tensor DropPrepended(const Context& ctx, const Tensor& x, std::span<const int64_t> lengths, int64_t n) {
  const int64_t cols = x.cols(), rows = Sum(lengths);
  CHECK(rows + n * static_cast<int64_t>(lengths.size()) == x.rows());
  const Tensor y = Tensor::Empty(rows, cols);
  int64_t from = 0, to = 0;
  for (const int64_t length : lengths) {
    std::copy_n(x.row(from + n), length * cols, y.row(to));
    from += n + length;
    to += length;
  }
  if (!ctx.Records({x})) return y;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, x, y, n, lengths = std::vector(lengths.begin(), lengths.end())] {
    const int64_t cols = x.cols();
    int64_t from = 0, to = 0;
    for (const int64_t length : lengths) {
      AddRows(ctx.kernels, y.grad() + to * cols, cols, x.grad() + (from + n) * cols, cols, length, cols);
      from += n + length;
      to += length;
    }
  });
  return y;
}

}  // namespace thimble

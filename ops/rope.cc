#include "ops/rope.h"

#include <cmath>

#include "base/check.h"

namespace thimble {
namespace {

void Rotate(const Context& ctx, float* x, int64_t cols, const RopeTable& table, float direction) {
  const int64_t head_dim = table.cos.cols();
  const auto rotate =
      table.style == RopeStyle::kHalf ? ctx.kernels.rotate_halves : ctx.kernels.rotate_neighbours;
  ctx.pool.ParallelFor(table.cos.rows(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      for (float* head = x + i * cols; head != x + (i + 1) * cols; head += head_dim) {
        rotate(head, table.cos.row(i), table.sin.row(i), direction, head_dim);
      }
    }
  });
}

}  // namespace

RopeTable MakeRopeTable(std::span<const int32_t> positions, std::span<const double> frequencies,
                        RopeStyle style) {
  const int64_t n = static_cast<int64_t>(positions.size()),
                n_pairs = static_cast<int64_t>(frequencies.size());
  RopeTable table{style, Tensor::Empty(n, 2 * n_pairs), Tensor::Empty(n, 2 * n_pairs)};
  for (int64_t i = 0; i < n; ++i) {
    float *cos = table.cos.row(i), *sin = table.sin.row(i);
    for (int64_t pair = 0; pair < n_pairs; ++pair) {
      const double angle = positions[static_cast<size_t>(i)] * frequencies[static_cast<size_t>(pair)];
      const int64_t first = style == RopeStyle::kHalf ? pair : 2 * pair;
      const int64_t second = first + (style == RopeStyle::kHalf ? n_pairs : 1);
      cos[first] = cos[second] = static_cast<float>(std::cos(angle));
      sin[second] = static_cast<float>(std::sin(angle));
      sin[first] = -sin[second];
    }
  }
  return table;
}

void Rope(const Context& ctx, const Tensor& x, const RopeTable& table) {
  CHECK(table.cos.rows() == x.rows() && x.cols() % table.cos.cols() == 0);
  Rotate(ctx, x.data(), x.cols(), table, 1);
  if (ctx.Records({x})) {
    ctx.tape->Record([ctx, x, table] { Rotate(ctx, x.grad(), x.cols(), table, -1); });
  }
}

}  // namespace thimble

#include "ops/rope.h"

#include <cmath>

#include "base/check.h"

namespace thimble {
namespace {

void Rotate(const Context& ctx, float* x, int64_t rows, int64_t cols, int64_t head_dim,
            const RopeTable& table, RopeStyle style, float direction) {
  const int64_t half = head_dim / 2;
  const int64_t step = style == RopeStyle::kHalf ? 1 : 2, partner = style == RopeStyle::kHalf ? half : 1;
  ctx.pool.ParallelFor(rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* cos = table.cos.data() + i * half;
      const float* sin = table.sin.data() + i * half;
      for (float* head = x + i * cols; head != x + (i + 1) * cols; head += head_dim) {
        for (int64_t p = 0; p < half; ++p) {
          float& a = head[p * step];
          float& b = head[p * step + partner];
          const float s = direction * sin[p];
          const float rotated_a = a * cos[p] - b * s;
          b = a * s + b * cos[p];
          a = rotated_a;
        }
      }
    }
  });
}

}  // namespace

RopeTable MakeRopeTable(std::span<const int32_t> positions, std::span<const double> frequencies) {
  RopeTable table;
  table.n_pairs = static_cast<int64_t>(frequencies.size());
  table.cos.reserve(positions.size() * frequencies.size());
  table.sin.reserve(positions.size() * frequencies.size());
  for (int32_t position : positions) {
    for (double frequency : frequencies) {
      table.cos.push_back(static_cast<float>(std::cos(position * frequency)));
      table.sin.push_back(static_cast<float>(std::sin(position * frequency)));
    }
  }
  return table;
}

void Rope(const Context& ctx, const Tensor& x, int64_t head_dim,
          const std::shared_ptr<const RopeTable>& table, RopeStyle style) {
  CHECK(table->n_pairs * 2 == head_dim && x.cols() % head_dim == 0);
  CHECK(static_cast<int64_t>(table->cos.size()) == x.rows() * table->n_pairs);
  Rotate(ctx, x.data(), x.rows(), x.cols(), head_dim, *table, style, 1);
  if (ctx.Records({x})) {
    ctx.tape->Record([ctx, x, head_dim, table, style] {
      Rotate(ctx, x.grad(), x.rows(), x.cols(), head_dim, *table, style, -1);
    });
  }
}

}  // namespace thimble

#include "ops/packed_weight.h"

#include <algorithm>

#include "base/check.h"
#include "ops/linear.h"

namespace thimble {

const uint8_t* PackedWeight::Rows(const Context& ctx, const Weight& w) {
  std::call_once(once_, [&] {
    const int type = static_cast<int>(w.type);
    const int64_t group_rows = ctx.kernels.packed_rows, n_groups = (w.n_out + group_rows - 1) / group_rows;
    const size_t group_bytes = ctx.kernels.packed_bytes[type](w.n_in);
    uint8_t* const rows = arena_->Allocate(group_bytes * static_cast<size_t>(n_groups));
    ctx.pool.ParallelFor(n_groups, 1 + (1 << 16) / static_cast<int64_t>(group_bytes),
                         [&](int64_t begin, int64_t end, int) {
                           for (int64_t g = begin; g < end; ++g) {
                             const int64_t first = g * group_rows;
                             ctx.kernels.pack_rows[type](std::min(group_rows, w.n_out - first), w.n_in,
                                                         w.row(first), RowBytes(w.type, w.n_in),
                                                         rows + static_cast<size_t>(g) * group_bytes);
                           }
                         });
    if (source_) source_->Release({w.data, RowBytes(w.type, w.n_in) * static_cast<size_t>(w.n_out)});
    kernels_ = &ctx.kernels;
    rows_ = rows;
  });
  CHECK(kernels_ == &ctx.kernels);
  return rows_;
}

}  // namespace thimble

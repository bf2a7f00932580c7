#include "ops/packed_weight.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ops/linear.h"

namespace thimble {

namespace {

constexpr size_t kBytesAtOnce = size_t{4} << 20;  // of the file that are in memory besides what is packed

}  // namespace

void PackedWeight::CopyRow(const Weight& w, int64_t i, uint8_t* to) const {
  const size_t bytes = RowBytes(w.type, w.n_in);
  if (source_ == nullptr) {
    std::memcpy(to, w.row(i), bytes);
  } else {
    CHECK(source_->Copy({w.row(i), bytes}, to));
  }
}

const uint8_t* PackedWeight::Rows(const Context& ctx, const Weight& w) {
  std::call_once(once_, [&] {
    const int type = static_cast<int>(w.type);
    const size_t row_bytes = RowBytes(w.type, w.n_in), group_bytes = ctx.kernels.packed_bytes[type](w.n_in);
    const int64_t group_rows = ctx.kernels.packed_rows, n_groups = (w.n_out + group_rows - 1) / group_rows;
    uint8_t* const packed = arena_->Allocate(group_bytes * static_cast<size_t>(n_groups));
    const int64_t step = 1 + static_cast<int64_t>(kBytesAtOnce / group_bytes);
    for (int64_t first_group = 0; first_group < n_groups; first_group += step) {
      const int64_t count = std::min(step, n_groups - first_group);
      const int64_t grain = 1 + count / (8 * ctx.pool.n_threads());
      ctx.pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int) {
        for (int64_t g = first_group + begin; g < first_group + end; ++g) {
          const int64_t row = g * group_rows;
          ctx.kernels.pack_rows[type](std::min(group_rows, w.n_out - row), w.n_in, w.row(row), row_bytes,
                                      packed + static_cast<size_t>(g) * group_bytes);
        }
      });
      if (source_ == nullptr) continue;
      const int64_t row = first_group * group_rows, rows = std::min(count * group_rows, w.n_out - row);
      source_->Release({w.row(row), static_cast<size_t>(rows) * row_bytes});
    }
    kernels_ = &ctx.kernels;
    rows_ = packed;
    packed_bytes_ = group_bytes * static_cast<size_t>(n_groups);
    file_bytes_ = row_bytes * static_cast<size_t>(w.n_out);
  });
  CHECK(kernels_ == &ctx.kernels);
  return rows_;
}

}  // namespace thimble

#include "ops/packed_weight.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ops/linear.h"

namespace thimble {

namespace {

// Of the file, copied by a thread at a time: they are still in its cache when they are packed.
constexpr size_t kBytesAtOnce = size_t{128} << 10;

}  // namespace

void PackedWeight::CopyRows(const Weight& w, int64_t first, int64_t n, uint8_t* to) const {
  const size_t bytes = RowBytes(w.type, w.n_in) * static_cast<size_t>(n);
  if (source_ == nullptr) {
    std::memcpy(to, w.row(first), bytes);
  } else {
    CHECK(source_->Copy({w.row(first), bytes}, to));
  }
}

const uint8_t* PackedWeight::Rows(const Context& ctx, const Weight& w) {
  std::call_once(once_, [&] {
    const int type = static_cast<int>(w.type);
    const size_t row_bytes = RowBytes(w.type, w.n_in), group_bytes = ctx.kernels.packed_bytes[type](w.n_in);
    const int64_t group_rows = ctx.kernels.packed_rows, n_groups = (w.n_out + group_rows - 1) / group_rows;
    uint8_t* const packed = arena_->Allocate(group_bytes * static_cast<size_t>(n_groups));
    const size_t source_bytes = row_bytes * static_cast<size_t>(group_rows);  // of a group
    const int64_t grain = 1 + std::min(static_cast<int64_t>(kBytesAtOnce / source_bytes),
                                       n_groups / (4 * ctx.pool.n_threads()));
    const size_t piece_bytes = source_bytes * static_cast<size_t>(grain);
    const auto pieces =
        std::make_unique_for_overwrite<uint8_t[]>(piece_bytes * static_cast<size_t>(ctx.pool.n_threads()));
    ctx.pool.ParallelFor(n_groups, grain, [&](int64_t begin, int64_t end, int thread) {
      uint8_t* const piece = pieces.get() + piece_bytes * static_cast<size_t>(thread);
      const int64_t first_row = begin * group_rows, end_row = std::min(end * group_rows, w.n_out);
      CopyRows(w, first_row, end_row - first_row, piece);
      for (int64_t g = begin; g < end; ++g) {
        ctx.kernels.pack_rows[type](std::min(group_rows, w.n_out - g * group_rows), w.n_in,
                                    piece + source_bytes * static_cast<size_t>(g - begin), row_bytes,
                                    packed + group_bytes * static_cast<size_t>(g));
      }
    });
    kernels_ = &ctx.kernels;
    rows_ = packed;
    packed_bytes_ = group_bytes * static_cast<size_t>(n_groups);
    file_bytes_ = row_bytes * static_cast<size_t>(w.n_out);
  });
  CHECK(kernels_ == &ctx.kernels);
  return rows_;
}

}  // namespace thimble

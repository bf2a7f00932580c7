#include "ops/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "ops/linear.h"

namespace thimble {

namespace {

// Of the file, copied by a thread at a time: they are still in its cache when they are packed.
constexpr size_t kBytesAtOnce = size_t{128} << 10;

}  // namespace

size_t PackedBytes(const Context& ctx, WeightType type, int64_t n_rows, int64_t n_columns) {
  const int64_t group_rows = ctx.kernels.packed_rows, n_groups = (n_rows + group_rows - 1) / group_rows;
  return ctx.kernels.packed_bytes[static_cast<int>(type)](n_columns) * static_cast<size_t>(n_groups);
}

void PackedWeight::CopyRows(const Weight& w, int64_t first, int64_t n, uint8_t* to) const {
  const size_t bytes = RowBytes(w.type, w.n_in) * static_cast<size_t>(n);
  if (source_ == nullptr) {
    std::memcpy(to, w.row(first), bytes);
  } else {
    CHECK(source_->Copy({w.row(first), bytes}, to));
  }
}

// Groups of rows side by side, in the arena. copy_rows(first, n, to) gives n of them as `type` has them.
const uint8_t* PackedWeight::Pack(const Context& ctx, WeightType weight_type, int64_t n_rows,
                                  int64_t n_columns,
                                  const std::function<void(int64_t, int64_t, uint8_t*)>& copy_rows) {
  const int type = static_cast<int>(weight_type);
  const size_t row_bytes = RowBytes(weight_type, n_columns),
               group_bytes = ctx.kernels.packed_bytes[type](n_columns);
  const int64_t group_rows = ctx.kernels.packed_rows, n_groups = (n_rows + group_rows - 1) / group_rows;
  const size_t packed_bytes = PackedBytes(ctx, weight_type, n_rows, n_columns);
  uint8_t* const packed = arena_->Allocate(packed_bytes);
  const size_t source_bytes = row_bytes * static_cast<size_t>(group_rows);  // of a group
  const int64_t grain =
      1 + std::min(static_cast<int64_t>(kBytesAtOnce / source_bytes), n_groups / (4 * ctx.pool.n_threads()));
  const size_t piece_bytes = source_bytes * static_cast<size_t>(grain);
  const auto pieces =
      std::make_unique_for_overwrite<uint8_t[]>(piece_bytes * static_cast<size_t>(ctx.pool.n_threads()));
  ctx.pool.ParallelFor(n_groups, grain, [&](int64_t begin, int64_t end, int thread) {
    uint8_t* const piece = pieces.get() + piece_bytes * static_cast<size_t>(thread);
    const int64_t first_row = begin * group_rows, end_row = std::min(end * group_rows, n_rows);
    copy_rows(first_row, end_row - first_row, piece);
    for (int64_t g = begin; g < end; ++g) {
      ctx.kernels.pack_rows[type](std::min(group_rows, n_rows - g * group_rows), n_columns,
                                  piece + source_bytes * static_cast<size_t>(g - begin), row_bytes,
                                  packed + group_bytes * static_cast<size_t>(g));
    }
  });
  CHECK(kernels_ == nullptr || kernels_ == &ctx.kernels);
  kernels_ = &ctx.kernels;
  packed_bytes_ += packed_bytes;
  return packed;
}

const uint8_t* PackedWeight::Rows(const Context& ctx, const Weight& w) {
  std::call_once(once_, [&] {
    rows_ = Pack(ctx, w.type, w.n_out, w.n_in,
                 [&](int64_t first, int64_t n, uint8_t* to) { CopyRows(w, first, n, to); });
    file_bytes_ = RowBytes(w.type, w.n_in) * static_cast<size_t>(w.n_out);
  });
  CHECK(kernels_ == &ctx.kernels);
  return rows_;
}

// [n_in * RowBytes(Q8_0, n_out)]
void PackedWeight::Transpose(const Context& ctx, const Weight& w, uint8_t* to) const {
  constexpr int64_t kBlock = 32;
  const size_t source_bytes = RowBytes(w.type, w.n_in), row_bytes = RowBytes(WeightType::kQ8_0, w.n_out),
               block_bytes = RowBytes(WeightType::kQ8_0, kBlock);
  ctx.pool.ParallelFor(w.n_out / kBlock, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<uint8_t> rows(source_bytes * kBlock);
    std::vector<float> values(static_cast<size_t>(kBlock * w.n_in));
    for (int64_t block = begin; block < end; ++block) {
      CopyRows(w, block * kBlock, kBlock, rows.data());
      for (int64_t i = 0; i < kBlock; ++i) {
        ctx.kernels.decode_row[static_cast<int>(w.type)](rows.data() + static_cast<size_t>(i) * source_bytes,
                                                         values.data() + i * w.n_in, w.n_in);
      }
      for (int64_t j = 0; j < w.n_in; ++j) {
        float column[kBlock];
        for (int64_t i = 0; i < kBlock; ++i) column[i] = values[static_cast<size_t>(i * w.n_in + j)];
        ctx.kernels.encode_row[static_cast<int>(WeightType::kQ8_0)](
            column, to + static_cast<size_t>(j) * row_bytes + static_cast<size_t>(block) * block_bytes,
            kBlock);
      }
    }
  });
}

const uint8_t* PackedWeight::TransposedRows(const Context& ctx, const Weight& w) {
  std::call_once(transposed_once_, [&] {
    const size_t row_bytes = RowBytes(WeightType::kQ8_0, w.n_out);
    Arena temporary;  // the heap would keep that much
    uint8_t* const whole = temporary.Allocate(row_bytes * static_cast<size_t>(w.n_in));
    Transpose(ctx, w, whole);
    transposed_ = Pack(ctx, WeightType::kQ8_0, w.n_in, w.n_out, [&](int64_t first, int64_t n, uint8_t* to) {
      std::memcpy(to, whole + static_cast<size_t>(first) * row_bytes, row_bytes * static_cast<size_t>(n));
    });
  });
  CHECK(kernels_ == &ctx.kernels);
  return transposed_;
}

}  // namespace thimble

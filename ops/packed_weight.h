// A weight's rows in the layout that a tier's integer products read.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "base/arena.h"
#include "base/file.h"
#include "codec/types.h"
#include "ops/context.h"

namespace thimble {

struct Weight;

// Of a matrix in the tier's layout: groups of ctx.kernels.packed_rows rows, the last one filled up.
size_t PackedBytes(const Context& ctx, WeightType type, int64_t n_rows, int64_t n_columns);

// Packed when a product first needs them, by all threads; shared by the copies of a Weight. Thread-safe.
class PackedWeight {
 public:
  // `source` is the mapped file that the rows stand in. Null: they are in memory that is not of a file.
  PackedWeight(std::shared_ptr<Arena> arena, std::shared_ptr<const MappedFile> source)
      : arena_(std::move(arena)), source_(std::move(source)) {}

  // Rows first .. first + n as they stand in the file, read in a way that leaves no page of the file in
  // memory, which is faster than mapping what is read once. [n * RowBytes(type, n_in)]
  void CopyRows(const Weight& weight, int64_t first, int64_t n, uint8_t* to) const;
  // Groups of ctx.kernels.packed_rows rows. One tier only: a CHECK forbids to come back with another one.
  const uint8_t* Rows(const Context& ctx, const Weight& weight);
  // The same of the transposed matrix [n_in, n_out], rounded to Q8_0, for gradients; n_out is a multiple
  // of 32.
  const uint8_t* TransposedRows(const Context& ctx, const Weight& weight);
  // Bytes that were packed so far, and those of the file that need no memory any more for it.
  size_t packed_bytes() const { return packed_bytes_; }
  size_t released_bytes() const { return source_ != nullptr ? file_bytes_.load() : 0; }

 private:
  void Transpose(const Context& ctx, const Weight& weight, uint8_t* to) const;
  const uint8_t* Pack(const Context& ctx, WeightType type, int64_t n_rows, int64_t n_columns,
                      const std::function<void(int64_t first, int64_t n, uint8_t* to)>& copy_rows);

  const std::shared_ptr<Arena> arena_;
  const std::shared_ptr<const MappedFile> source_;
  std::once_flag once_, transposed_once_;
  const uint8_t *rows_ = nullptr, *transposed_ = nullptr;
  const KernelTable* kernels_ = nullptr;
  std::atomic<size_t> packed_bytes_{0}, file_bytes_{0};
};

}  // namespace thimble

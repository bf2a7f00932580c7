// Tensors on their way from one file into another: decoded, transformed and encoded a slab of rows at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/tensor_table.h"
#include "model/arch.h"
#include "quant/hessian.h"

namespace thimble {

// One tensor of a file to be written, and where its values come from.
struct ExportTensor {
  std::string name;
  WeightType type = WeightType::kF32;  // in the new file
  WeightType wanted =
      WeightType::kF32;  // what the mix asked for; differs where the row doesn't fit its block
  TensorInfo source;     // same shape; bytes not owned
  GgufTransform transform = GgufTransform::kNone;
  bool undo = false;     // the transform goes from GGUF's form to Hugging Face's
  int64_t head_dim = 0;  // for kPermuteHeads
  // Factors of the source's rows and of its columns (a vector is one row), after the transform; empty: 1.
  std::vector<float> row_scales = {}, column_scales = {};
  // What is done to a row of the source after all this.
  std::function<void(int64_t source_row, float* row)> change = {};

  const std::vector<int64_t>& shape() const { return source.shape; }
};

// Whether its rows are whole blocks of the type, and what it takes then.
inline bool CanHold(const ExportTensor& tensor, WeightType type) {
  return RowFits(type, tensor.source.row_size());
}
inline uint64_t BytesIn(const ExportTensor& tensor, WeightType type) {
  return static_cast<uint64_t>(tensor.source.n_rows()) * RowBytes(type, tensor.source.row_size());
}

// Not copied, nor kept in a floating-point type.
inline bool IsRounded(const ExportTensor& tensor) {
  return Info(tensor.type).quantized && tensor.type != tensor.source.type;
}

// The row of the source that becomes the new file's row.
int64_t SourceRow(const ExportTensor& tensor, int64_t row);
// A row of the source, decoded, transformed, scaled and changed. `out`: [columns].
void ReadRow(const ExportTensor& tensor, int64_t source_row, float* out);

// How a tensor's weights are rounded, beyond what its type says.
struct TensorRounding {
  std::vector<float> importance;        // [columns], of each column's error; empty: all alike
  std::optional<HessianFactor> factor;  // errors are fed back; importance does not count then
};
using RoundingFor = std::function<Result<TensorRounding>(const ExportTensor&)>;

// What writing one tensor cost.
struct TensorReport {
  std::string name;
  WeightType from = WeightType::kF32, to = WeightType::kF32, wanted = WeightType::kF32;
  int64_t n_weights = 0;
  uint64_t bytes_in = 0, bytes_out = 0;
  double squared_error = 0, squared_sum = 0;  // of the source's decoded values
  double relative_error() const;              // root mean square error over root mean square
};

using ByteSink = std::function<Status(std::span<const uint8_t>)>;

// Writes tensors one after another and reports progress in MB read.
class TensorStreamer {
 public:
  // `path` names the source in errors; `total_bytes`: of all sources.
  TensorStreamer(ThreadPool& pool, const ProgressFn& progress, std::string stage, std::string path,
                 uint64_t total_bytes)
      : pool_(pool),
        progress_(progress),
        stage_(std::move(stage)),
        path_(std::move(path)),
        total_bytes_(total_bytes) {}

  // Rows of the same type that need no arithmetic are copied bit for bit. Errors: the sink's; kCorrupt for
  // values that are not finite; kInvalidArgument for values beyond the new type's range; kCancelled.
  Result<TensorReport> Write(const ExportTensor& tensor, const TensorRounding& rounding,
                             const ByteSink& sink);

 private:
  struct Rows;
  Status CheckSums(const ExportTensor& tensor, const TensorReport& report) const;
  void EncodeRows(const ExportTensor& tensor, const Rows& rows, const TensorRounding& rounding, int64_t begin,
                  int64_t end);
  Status Report(const std::string& note, uint64_t bytes);

  ThreadPool& pool_;
  const ProgressFn& progress_;
  std::string stage_, path_;
  uint64_t total_bytes_, done_bytes_ = 0;
  std::vector<uint8_t> slab_;
  std::vector<float> scratch_;
  std::vector<double> error_, sum_;  // per row of the slab, so that the sums don't depend on the threads
};

// Bytes of the sources.
uint64_t SourceBytes(std::span<const ExportTensor> tensors);

}  // namespace thimble

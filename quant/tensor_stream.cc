#include "quant/tensor_stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/codec.h"
#include "model/adapter.h"
#include "quant/feedback_rounding.h"
#include "quant/squared_sums.h"

namespace thimble {
namespace {

constexpr int64_t kSlabWeights = 1 << 22;  // 16 MB in F32: enough for all threads, little beside a model

int64_t Columns(const ExportTensor& t) {
  const bool bias = t.transform == GgufTransform::kPermuteHeads && t.shape().size() == 1;
  return bias ? 1 : t.source.row_size();  // that bias's numbers move one by one
}

}  // namespace

// A tensor as rows that can be moved and encoded one by one.
struct TensorStreamer::Rows {
  int64_t n, cols;
  size_t source_bytes, bytes;  // of one row
  bool copied;                 // bit for bit

  explicit Rows(const ExportTensor& t) : n(t.source.n_rows()), cols(Columns(t)) {
    if (cols != t.source.row_size()) n = t.source.n_elements();
    source_bytes = RowBytes(t.source.type, cols);
    bytes = RowBytes(t.type, cols);
    copied = t.source.type == t.type && t.transform != GgufTransform::kPlusOne && t.row_scales.empty() &&
             t.column_scales.empty() && !t.change;
  }
};

int64_t SourceRow(const ExportTensor& t, int64_t row) {
  if (t.transform != GgufTransform::kPermuteHeads) return row;
  if (!t.undo) return PermutedRow(row, t.head_dim);
  const int64_t within = row % t.head_dim, half = t.head_dim / 2;
  return row - within + within % half * 2 + within / half;
}

void ReadRow(const ExportTensor& t, int64_t source_row, float* out) {
  const int64_t n = Columns(t);
  const uint8_t* source =
      t.source.bytes.data() + static_cast<size_t>(source_row) * RowBytes(t.source.type, n);
  Kernels().decode_row[static_cast<size_t>(t.source.type)](source, out, n);
  if (t.transform == GgufTransform::kPlusOne) {
    for (int64_t i = 0; i < n; ++i) out[i] += t.undo ? -1.0f : 1.0f;
  }
  for (size_t i = 0; i < t.column_scales.size(); ++i) out[i] *= t.column_scales[i];
  if (!t.row_scales.empty()) {
    for (int64_t i = 0; i < n; ++i) out[i] *= t.row_scales[static_cast<size_t>(source_row)];
  }
  if (t.change) t.change(source_row, out);
}

double TensorReport::relative_error() const {
  return squared_sum > 0 ? std::sqrt(squared_error / squared_sum) : 0;
}

uint64_t SourceBytes(std::span<const ExportTensor> tensors) {
  uint64_t bytes = 0;
  for (const ExportTensor& t : tensors) bytes += t.source.bytes.size();
  return bytes;
}

void TensorStreamer::EncodeRows(const ExportTensor& t, const Rows& rows, const TensorRounding& rounding,
                                int64_t begin, int64_t end) {
  const size_t cols = static_cast<size_t>(rows.cols);
  scratch_.resize((kRoundRows + 1) * cols * static_cast<size_t>(pool_.n_threads()));
  error_.assign(static_cast<size_t>(end - begin), 0);
  sum_.assign(static_cast<size_t>(end - begin), 0);
  // The codec saturates, which no one who dequantizes would want.
  const float limit = t.type == WeightType::kF16 ? 65504.0f : std::numeric_limits<float>::max();
  const KernelTable& kernels = Kernels();
  const float* importance = rounding.importance.empty() ? nullptr : rounding.importance.data();
  pool_.ParallelFor(end - begin, kRoundRows, [&](int64_t first, int64_t last, int thread) {
    float* x = scratch_.data() + (kRoundRows + 1) * cols * static_cast<size_t>(thread);
    float* y = x + kRoundRows * cols;
    uint8_t* out = slab_.data() + static_cast<size_t>(first) * rows.bytes;
    for (int64_t i = first; i < last; ++i) {
      ReadRow(t, SourceRow(t, begin + i), x + static_cast<size_t>(i - first) * cols);
    }
    if (rounding.factor && Info(t.type).quantized) {
      double costs[kRoundRows];
      RoundWithFeedback(kernels, t.type, last - first, x, rows.cols, *rounding.factor, out, costs);
    } else {
      for (int64_t i = first; i < last; ++i) {
        EncodeRow(t.type, x + static_cast<size_t>(i - first) * cols,
                  out + static_cast<size_t>(i - first) * rows.bytes, rows.cols, importance);
      }
    }
    for (int64_t i = first; i < last; ++i) {
      const float* row = x + static_cast<size_t>(i - first) * cols;
      kernels.decode_row[static_cast<size_t>(t.type)](out + static_cast<size_t>(i - first) * rows.bytes, y,
                                                      rows.cols);
      const SquaredSums sums = MeasureSquaredSums(kernels, row, y, rows.cols, limit);
      error_[static_cast<size_t>(i)] = sums.error;
      sum_[static_cast<size_t>(i)] = sums.sum;
    }
  });
}

Status TensorStreamer::CheckSums(const ExportTensor& t, const TensorReport& report) const {
  if (!std::isfinite(report.squared_sum)) {
    return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' holds a value that is not finite", path_,
                     t.source.name);
  }
  if (!std::isfinite(report.squared_error)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: tensor '{}' holds values beyond the range of {}; use BF16 or F32", path_,
                     t.source.name, Name(t.type));
  }
  return {};
}

Status TensorStreamer::Report(const std::string& note, uint64_t bytes) {
  done_bytes_ += bytes;
  const Progress progress{stage_, static_cast<double>(done_bytes_) * 1e-6,
                          static_cast<double>(total_bytes_) * 1e-6, "MB", note};
  if (progress_ && !progress_(progress)) return MakeError(ErrorCode::kCancelled, "{}: cancelled", stage_);
  return {};
}

Result<TensorReport> TensorStreamer::Write(const ExportTensor& t, const TensorRounding& rounding,
                                           const ByteSink& sink) {
  CHECK(t.transform != GgufTransform::kPermuteHeads || t.head_dim > 0);
  const Rows rows(t);
  TensorReport report{.name = t.name, .from = t.source.type, .to = t.type, .wanted = t.wanted};
  report.n_weights = t.source.n_elements();
  report.bytes_in = t.source.bytes.size();
  report.bytes_out = static_cast<uint64_t>(rows.n) * rows.bytes;
  const int64_t step = std::max<int64_t>(1, kSlabWeights / std::max<int64_t>(1, rows.cols));
  for (int64_t begin = 0; begin < rows.n; begin += step) {
    const int64_t end = std::min(rows.n, begin + step);
    slab_.resize(static_cast<size_t>(end - begin) * rows.bytes);
    if (rows.copied) {
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(slab_.data() + static_cast<size_t>(i - begin) * rows.bytes,
                    t.source.bytes.data() + static_cast<size_t>(SourceRow(t, i)) * rows.bytes, rows.bytes);
      }
    } else {
      EncodeRows(t, rows, rounding, begin, end);
      for (double e : error_) report.squared_error += e;
      for (double s : sum_) report.squared_sum += s;
      RETURN_IF_ERROR(CheckSums(t, report));
    }
    RETURN_IF_ERROR(sink(slab_));
    RETURN_IF_ERROR(Report(t.name, static_cast<uint64_t>(end - begin) * rows.source_bytes));
  }
  return report;
}

}  // namespace thimble

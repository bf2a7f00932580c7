#include "quant/calibrated_rounding.h"

#include <cmath>

#include "base/check.h"
#include "codec/codec.h"
#include "quant/feedback_rounding.h"
#include "quant/squared_sums.h"

namespace thimble {
namespace {

// Of the tensor's rows as they are rounded.
HessianFactor Scaled(HessianFactor factor, const ExportTensor& t) {
  if (!t.column_scales.empty()) ScaleColumns(t.column_scales, factor);
  return factor;
}

std::vector<float> Importance(const Hessian& hessian, const ExportTensor& t) {
  std::vector<float> importance;
  for (int64_t i = 0; i < hessian.n; ++i) importance.push_back(hessian.diagonal(i));
  for (size_t i = 0; i < t.column_scales.size(); ++i) {
    importance[i] /= t.column_scales[i] * t.column_scales[i];
  }
  return importance;
}

}  // namespace

const char* Name(RoundingMethod method) {
  switch (method) {
    case RoundingMethod::kRtn:
      return "rtn";
    case RoundingMethod::kImatrix:
      return "imatrix";
    case RoundingMethod::kGptq:
      return "gptq";
  }
  return "";
}

RoundingFor RoundingBy(Methods methods, const CalibrationFile& calibration, ThreadPool& pool) {
  return
      [methods = std::move(methods), &calibration, &pool](const ExportTensor& t) -> Result<TensorRounding> {
        const RoundingMethod method = methods.Of(t.name);
        TensorRounding rounding;
        if (method == RoundingMethod::kRtn || !calibration.Has(t.name)) return rounding;
        ASSIGN_OR_RETURN(const LayerStatistics s, calibration.Read(t.name));
        if (method == RoundingMethod::kImatrix) {
          rounding.importance = Importance(s.hessian, t);
        } else {
          ASSIGN_OR_RETURN(HessianFactor factor, Factorize(pool, Kernels(), s.hessian, OrderOf(t.type)));
          rounding.factor = Scaled(std::move(factor), t);
        }
        return rounding;
      };
}

RoundingCost MeasureRounding(const ExportTensor& t, WeightType type, RoundingMethod method,
                             const LayerStatistics& statistics, const HessianFactor& unscaled,
                             ThreadPool& pool, int64_t max_rows, uint8_t* rounded) {
  CHECK(rounded == nullptr || max_rows >= t.source.n_rows());
  const int64_t rows = t.source.n_rows(), cols = t.source.row_size();
  const int64_t step = std::max<int64_t>(1, rows / std::max<int64_t>(max_rows, kRoundRows)) * kRoundRows;
  const int64_t groups = (rows + step - 1) / step;  // of kRoundRows rows, every `step` rows
  const size_t threads = static_cast<size_t>(pool.n_threads()), bytes = RowBytes(type, cols);
  const HessianFactor scaled = t.column_scales.empty() ? HessianFactor() : Scaled(unscaled, t);
  const HessianFactor& factor = t.column_scales.empty() ? unscaled : scaled;
  const float* importance = method == RoundingMethod::kImatrix ? factor.importance.data() : nullptr;
  struct Sums {
    double kld = 0, squared_error = 0, squared = 0;
  };
  std::vector<Sums> sums(static_cast<size_t>(groups));  // not by thread, so that they don't depend on them
  std::vector<float> weights(threads * (kRoundRows + 1) * static_cast<size_t>(cols));
  std::vector<uint8_t> scratch(rounded == nullptr ? threads * kRoundRows * bytes : 0);
  pool.ParallelFor(groups, 1, [&](int64_t begin, int64_t end, int thread) {
    float* w = weights.data() + static_cast<int64_t>(thread) * (kRoundRows + 1) * cols;
    float* error = w + kRoundRows * cols;
    for (int64_t group = begin; group < end; ++group) {
      const int64_t first = group * step, n = std::min<int64_t>(kRoundRows, rows - first);
      uint8_t* out = rounded == nullptr ? scratch.data() + static_cast<size_t>(thread) * kRoundRows * bytes
                                        : rounded + static_cast<size_t>(first) * bytes;
      for (int64_t i = 0; i < n; ++i) ReadRow(t, first + i, w + i * cols);
      double row_costs[kRoundRows];
      if (method == RoundingMethod::kGptq) {
        RoundWithFeedback(Kernels(), type, n, w, cols, factor, out, row_costs);
      } else {
        RoundAlone(Kernels(), type, n, w, cols, factor, importance, out, row_costs);
      }
      Sums& sum = sums[static_cast<size_t>(group)];
      for (int64_t i = 0; i < n; ++i) {
        const size_t row = static_cast<size_t>(first + i);
        const double scale = t.row_scales.empty() ? 1 : t.row_scales[row];
        sum.kld += 0.5 * row_costs[i] * statistics.row_weights[row] / (scale * scale);
        DecodeRow(type, out + static_cast<size_t>(i) * bytes, error, cols);
        const SquaredSums squared = MeasureSquaredSums(Kernels(), w + i * cols, error, cols);
        sum.squared_error += squared.error;
        sum.squared += squared.sum;
      }
    }
  });
  Sums all;
  for (const Sums& sum : sums) {
    all.kld += sum.kld;
    all.squared_error += sum.squared_error;
    all.squared += sum.squared;
  }
  return {all.kld * static_cast<double>(step / kRoundRows),
          all.squared > 0 ? std::sqrt(all.squared_error / all.squared) : 0};
}

}  // namespace thimble

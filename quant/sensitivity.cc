#include "quant/sensitivity.h"

#include <algorithm>

#include "codec/codec.h"
#include "quant/calibrated_rounding.h"
#include "quant/feedback_rounding.h"

namespace thimble {
namespace {

// Expected KL of rounding the tensor's rows with feedback.
double RoundingCost(const ExportTensor& t, WeightType type, const LayerStatistics& statistics,
                    const HessianFactor& factor, ThreadPool& pool) {
  const int64_t rows = t.source.n_rows(), cols = t.source.row_size();
  const size_t source_bytes = RowBytes(t.source.type, cols), bytes = RowBytes(type, cols);
  const int64_t groups = (rows + kRoundRows - 1) / kRoundRows;
  std::vector<double> costs(static_cast<size_t>(groups));
  const size_t threads = static_cast<size_t>(pool.n_threads());
  std::vector<float> weights(threads * kRoundRows * static_cast<size_t>(cols));
  std::vector<uint8_t> rounded(threads * kRoundRows * bytes);
  pool.ParallelFor(groups, 1, [&](int64_t begin, int64_t end, int thread) {
    float* w = weights.data() + static_cast<int64_t>(thread) * kRoundRows * cols;
    for (int64_t group = begin; group < end; ++group) {
      const int64_t first = group * kRoundRows, n = std::min<int64_t>(kRoundRows, rows - first);
      for (int64_t i = 0; i < n; ++i) {
        DecodeRow(t.source.type, t.source.bytes.data() + static_cast<size_t>(first + i) * source_bytes,
                  w + i * cols, cols);
      }
      double row_costs[kRoundRows];
      RoundWithFeedback(Kernels(), type, n, w, cols, factor,
                        rounded.data() + static_cast<size_t>(thread) * kRoundRows * bytes, row_costs);
      for (int64_t i = 0; i < n; ++i) {
        costs[static_cast<size_t>(group)] +=
            0.5 * row_costs[i] * statistics.row_weights[static_cast<size_t>(first + i)];
      }
    }
  });
  double sum = 0;
  for (const double cost : costs) sum += cost;
  return sum;
}

}  // namespace

Result<std::vector<TensorCosts>> MeasureCosts(const ExportPlan& plan, const Calibration& calibration,
                                              const ModelConfig& config,
                                              std::span<const WeightType> candidates, ThreadPool& pool,
                                              const ProgressFn& progress) {
  double done = 0, total = 0;
  const uint64_t alignment = static_cast<uint64_t>(plan.metadata.Int("general.alignment").value_or(32));
  const auto bytes_of = [&](const ExportTensor& t, WeightType type) {
    const uint64_t bytes = static_cast<uint64_t>(t.source.n_rows()) * RowBytes(type, t.source.row_size());
    return (bytes + alignment - 1) / alignment * alignment;
  };
  const StatisticsByName statistics(calibration, config);
  for (const ExportTensor& t : plan.tensors) {
    if (statistics.Find(t.name) != nullptr) total += static_cast<double>(t.source.n_elements());
  }
  std::vector<TensorCosts> all;
  for (const ExportTensor& t : plan.tensors) {
    TensorCosts& costs = all.emplace_back(TensorCosts{t.name, {}});
    const LayerStatistics* s = statistics.Find(t.name);
    const auto fits = [&](WeightType type) { return t.source.row_size() % Info(type).block_size == 0; };
    if (s == nullptr || std::ranges::none_of(candidates, fits)) {
      costs.choices = {{t.type, bytes_of(t, t.type), 0}};
      continue;
    }
    ASSIGN_OR_RETURN(const HessianFactor factor, Factorize(pool, Kernels(), s->hessian));
    for (const WeightType type : candidates) {
      if (!fits(type)) continue;
      costs.choices.push_back({type, bytes_of(t, type), RoundingCost(t, type, *s, factor, pool)});
    }
    std::stable_sort(costs.choices.begin(), costs.choices.end(),
                     [](const TypeCost& a, const TypeCost& b) { return a.bytes < b.bytes; });
    done += static_cast<double>(t.source.n_elements()) * 1e-6;
    if (progress && !progress({"sensitivity", done, total * 1e-6, "M weights", t.name})) {
      return MakeError(ErrorCode::kCancelled, "sensitivity: cancelled");
    }
  }
  return all;
}

}  // namespace thimble

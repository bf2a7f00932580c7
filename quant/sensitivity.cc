#include "quant/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/check.h"
#include "base/clock.h"
#include "quant/calibrated_rounding.h"

namespace thimble {
namespace {

constexpr int64_t kFirstRows = 512;

}  // namespace

Result<std::vector<TensorCosts>> MeasureCosts(const ExportPlan& plan, const CalibrationFile& calibration,
                                              std::span<const WeightType> candidates, ThreadPool& pool,
                                              const ProgressFn& progress, const CostOptions& options) {
  CHECK(options.keep == nullptr || options.max_seconds == 0);
  double done = 0, total = 0;
  const uint64_t alignment = static_cast<uint64_t>(plan.metadata.Int("general.alignment").value_or(32));
  const auto bytes_of = [&](const ExportTensor& t, WeightType type) {
    return (BytesIn(t, type) + alignment - 1) / alignment * alignment;
  };
  for (const ExportTensor& t : plan.tensors) {
    if (calibration.Has(t.name)) total += static_cast<double>(t.source.n_elements());
  }
  double measured = 0;  // weights, of `done`
  const double begin = Seconds();
  const auto rows_in_time = [&](const ExportTensor& t) {
    if (options.max_seconds == 0) return t.source.n_rows();
    if (done == 0) return kFirstRows;  // which tell the speed
    const double elapsed = Seconds() - begin;
    const double share = measured / elapsed * std::max(0.0, options.max_seconds - elapsed) / (total - done);
    return static_cast<int64_t>(std::min(1.0, share) * static_cast<double>(t.source.n_rows()));
  };
  std::vector<TensorCosts> all;
  std::vector<uint8_t> rounded;
  for (const ExportTensor& t : plan.tensors) {
    TensorCosts& costs = all.emplace_back(TensorCosts{t.name, {}});
    const auto fits = [&](WeightType type) { return CanHold(t, type); };
    if (!calibration.Has(t.name) || std::ranges::none_of(candidates, fits)) {
      costs.choices = {{t.type, bytes_of(t, t.type), 0}};
      continue;
    }
    ASSIGN_OR_RETURN(const LayerStatistics s, calibration.Read(t.name));
    std::map<ColumnOrder, HessianFactor> factors;
    const int64_t rows = std::clamp<int64_t>(rows_in_time(t), 1, t.source.n_rows());
    for (const WeightType type : candidates) {
      if (!fits(type)) continue;
      RoundingCost cost;
      std::span<const uint8_t> bytes = t.source.bytes;  // copied where it has the type
      if (type != t.source.type) {
        if (options.keep != nullptr) rounded.resize(BytesIn(t, type));
        const ColumnOrder order = OrderOf(type);
        if (!factors.contains(order)) {
          ASSIGN_OR_RETURN(factors[order], Factorize(pool, Kernels(), s.hessian, order));
        }
        cost = MeasureRounding(t, type, RoundingMethod::kGptq, s, factors[order], pool, rows,
                               options.keep != nullptr ? rounded.data() : nullptr);
        bytes = rounded;
      }
      if (!std::isfinite(cost.kld + cost.relative_error)) {
        return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' holds a value that is not finite",
                         plan.source.path, t.source.name);
      }
      costs.choices.push_back({type, bytes_of(t, type), cost.kld, cost.relative_error});
      if (options.keep != nullptr) RETURN_IF_ERROR(options.keep->Write(type, bytes));
    }
    std::stable_sort(costs.choices.begin(), costs.choices.end(),
                     [](const TypeCost& a, const TypeCost& b) { return a.bytes < b.bytes; });
    done += static_cast<double>(t.source.n_elements());
    measured += static_cast<double>(rows * t.source.row_size());
    if (progress && !progress({"sensitivity", done * 1e-6, total * 1e-6, "M weights", t.name})) {
      return MakeError(ErrorCode::kCancelled, "sensitivity: cancelled");
    }
  }
  return all;
}

}  // namespace thimble

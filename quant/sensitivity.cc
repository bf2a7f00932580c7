#include "quant/sensitivity.h"

#include <algorithm>

#include "quant/calibrated_rounding.h"

namespace thimble {

Result<std::vector<TensorCosts>> MeasureCosts(const ExportPlan& plan, const CalibrationFile& calibration,
                                              std::span<const WeightType> candidates, ThreadPool& pool,
                                              const ProgressFn& progress) {
  double done = 0, total = 0;
  const uint64_t alignment = static_cast<uint64_t>(plan.metadata.Int("general.alignment").value_or(32));
  const auto bytes_of = [&](const ExportTensor& t, WeightType type) {
    const uint64_t bytes = static_cast<uint64_t>(t.source.n_rows()) * RowBytes(type, t.source.row_size());
    return (bytes + alignment - 1) / alignment * alignment;
  };
  for (const ExportTensor& t : plan.tensors) {
    if (calibration.Has(t.name)) total += static_cast<double>(t.source.n_elements());
  }
  std::vector<TensorCosts> all;
  for (const ExportTensor& t : plan.tensors) {
    TensorCosts& costs = all.emplace_back(TensorCosts{t.name, {}});
    const auto fits = [&](WeightType type) { return t.source.row_size() % Info(type).block_size == 0; };
    if (!calibration.Has(t.name) || std::ranges::none_of(candidates, fits)) {
      costs.choices = {{t.type, bytes_of(t, t.type), 0}};
      continue;
    }
    ASSIGN_OR_RETURN(const LayerStatistics s, calibration.Read(t.name));
    ASSIGN_OR_RETURN(const HessianFactor factor, Factorize(pool, Kernels(), s.hessian));
    for (const WeightType type : candidates) {
      if (!fits(type)) continue;
      costs.choices.push_back(
          {type, bytes_of(t, type), RoundingCost(t, type, RoundingMethod::kGptq, s, factor, pool)});
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

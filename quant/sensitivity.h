// What each tensor costs in each type: bytes, and how far the model's predictions are expected to move.
#pragma once

#include <string>
#include <vector>

#include "quant/calibration_file.h"
#include "quant/export_plan.h"

namespace thimble {

struct TypeCost {
  WeightType type;
  uint64_t bytes = 0;  // in a GGUF, with the padding after it
  double kld = 0;      // expected KL(before || after), nats per token, of rounding this tensor alone
};

struct TensorCosts {
  std::string name;
  std::vector<TypeCost> choices;  // one at least; by bytes
};

// Of every tensor of the plan: types of `candidates` whose blocks fit its rows where it has statistics; where
// none fits, or it has none, the type that it has. Rounds every tensor with every type.
Result<std::vector<TensorCosts>> MeasureCosts(const ExportPlan& plan, const CalibrationFile& calibration,
                                              std::span<const WeightType> candidates, ThreadPool& pool,
                                              const ProgressFn& progress);

}  // namespace thimble

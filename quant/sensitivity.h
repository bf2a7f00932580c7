// What each tensor costs in each type: bytes, and how far the model's predictions are expected to move.
#pragma once

#include <string>
#include <vector>

#include "quant/calibration_file.h"
#include "quant/export_plan.h"
#include "quant/rounded_tensors.h"

namespace thimble {

struct TypeCost {
  WeightType type;
  uint64_t bytes = 0;         // in a GGUF, with the padding after it
  double kld = 0;             // expected KL(before || after), nats per token, of rounding this tensor alone
  double relative_error = 0;  // of its weights: root mean square error over root mean square
};

struct TensorCosts {
  std::string name;
  std::vector<TypeCost> choices;  // one at least; by bytes
};

struct CostOptions {
  double max_seconds = 0;  // about; costs are estimated from as many rows as there is time for. 0: from all
  RoundedTensorsWriter* keep = nullptr;  // gets what was rounded: begun for the same tensors and types;
                                         // without max_seconds
};

// Of every tensor of the plan: types of `candidates` whose blocks fit its rows where it has statistics; where
// none fits, or it has none, the type that it has. Rounds every tensor with every other type, with feedback.
// Errors: kCorrupt, a weight is not finite; kCancelled.
Result<std::vector<TensorCosts>> MeasureCosts(const ExportPlan& plan, const CalibrationFile& calibration,
                                              std::span<const WeightType> candidates, ThreadPool& pool,
                                              const ProgressFn& progress, const CostOptions& options = {});

}  // namespace thimble

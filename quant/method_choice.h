// How thimble quantize rounds: one method for all tensors, or the one that costs each of them least.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "quant/calibrated_rounding.h"
#include "quant/export_plan.h"

namespace thimble {

// A value of --method.
struct MethodRow {
  const char* name;
  const char* help;
  std::vector<RoundingMethod> rounding;  // of which each tensor gets the one that costs least
  bool scales_channels = false;          // of groups of tensors that it makes cheaper
};
std::span<const MethodRow> AllMethods();
const MethodRow* FindMethod(const std::string& name);  // nullptr if unknown

// Scales the plan's channels where the method does, and chooses each tensor's rounding; where there is
// nothing to choose, without measuring. Costs are RoundingCost's. Error: kCancelled.
Result<Methods> ChooseMethods(const MethodRow& method, const CalibrationFile& calibration,
                              const ModelConfig& config, ThreadPool& pool, const ProgressFn& progress,
                              ExportPlan& plan);

// "30 imatrix, 181 gptq (120 with scaled channels)", of the tensors that are rounded.
std::string DescribeMethods(const Methods& methods, const ExportPlan& plan);

}  // namespace thimble

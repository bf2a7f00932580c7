// How each tensor of a model is rounded, given what its layers saw on calibration text, and what that costs.
#pragma once

#include <string>
#include <unordered_map>

#include "quant/calibration.h"
#include "quant/tensor_names.h"
#include "quant/tensor_stream.h"

namespace thimble {

// Statistics by a tensor's name in GGUF.
class StatisticsByName {
 public:
  // Both must outlive it.
  StatisticsByName(const Calibration& calibration, const ModelConfig& config)
      : calibration_(calibration), config_(config), places_(PlacesByName(config, Naming::kGguf)) {}
  // nullptr for a tensor that has none: a vector.
  const LayerStatistics* Find(const std::string& name) const;

 private:
  const Calibration& calibration_;
  const ModelConfig& config_;
  std::unordered_map<std::string, TensorPlace> places_;
};

enum class RoundingMethod {
  kRtn,      // every weight by itself
  kImatrix,  // errors weighted by the Hessian's diagonal
  kGptq,     // errors fed back through the Hessian
};
const char* Name(RoundingMethod method);

// Not copied, nor kept in a floating-point type.
inline bool IsRounded(const ExportTensor& t) {
  return Info(t.type).quantized && t.type != t.source.type;
}

struct Methods {
  RoundingMethod common = RoundingMethod::kRtn;
  std::unordered_map<std::string, RoundingMethod> own = {};  // of tensors that differ from it, by name
};

// For the tensors of a GGUF made from the model that was calibrated; matrices without statistics (an
// embedding that is not the output) are rounded as kRtn does. `statistics` must outlive the result.
RoundingFor RoundingBy(Methods methods, const StatisticsByName& statistics, ThreadPool& pool);

// What rounding the tensor, with its scales, to `type` is expected to cost in KL divergence: half of the sum
// over rows of row_weights[r] e_r (H + damping) e_r^T, e the error of the weights before scaling. `factor`:
// of the statistics' Hessian.
double RoundingCost(const ExportTensor& tensor, WeightType type, RoundingMethod method,
                    const LayerStatistics& statistics, const HessianFactor& factor, ThreadPool& pool);

}  // namespace thimble

// How each tensor of a model is rounded, given what its layers saw on calibration text, and what that costs.
#pragma once

#include <string>
#include <unordered_map>

#include "quant/calibration_file.h"
#include "quant/tensor_stream.h"

namespace thimble {

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

  RoundingMethod Of(const std::string& tensor) const {
    const auto found = own.find(tensor);
    return found != own.end() ? found->second : common;
  }
};

// For the tensors of a GGUF made from the model that was calibrated; matrices without statistics (an
// embedding that is not the output) are rounded as kRtn does. `calibration` must outlive the result.
RoundingFor RoundingBy(Methods methods, const CalibrationFile& calibration, ThreadPool& pool);

// What rounding the tensor, with its scales, to `type` is expected to cost in KL divergence: half of the sum
// over rows of row_weights[r] e_r (H + damping) e_r^T, e the error of the weights before scaling. `factor`:
// of the statistics' Hessian. Estimated from about max_rows rows where there are more.
double RoundingCost(const ExportTensor& tensor, WeightType type, RoundingMethod method,
                    const LayerStatistics& statistics, const HessianFactor& factor, ThreadPool& pool,
                    int64_t max_rows = INT64_MAX);

}  // namespace thimble

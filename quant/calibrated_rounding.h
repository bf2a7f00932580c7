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

struct RoundingCost {
  double kld = 0;  // expected of the model: half of the sum over rows of row_weights[r] e_r (H + damping)
                   // e_r^T, e the error of the weights before scaling
  double relative_error = 0;  // of the weights: root mean square error over root mean square
};

// Of rounding the tensor, with its scales, to `type`. `factor`: of the statistics' Hessian, in OrderOf(type).
// Estimated from about max_rows rows where there are more; the rounded rows of all go to `rounded` if it is
// not null, in the source's order.
RoundingCost MeasureRounding(const ExportTensor& tensor, WeightType type, RoundingMethod method,
                             const LayerStatistics& statistics, const HessianFactor& factor, ThreadPool& pool,
                             int64_t max_rows = INT64_MAX, uint8_t* rounded = nullptr);

}  // namespace thimble

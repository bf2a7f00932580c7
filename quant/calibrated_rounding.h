// How each tensor of a model is rounded, given what its layers saw on calibration text.
#pragma once

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

// For the tensors of a GGUF made from the model that was calibrated; matrices without statistics (an
// embedding that is not the output) are rounded as kRtn does. `calibration` must outlive the result.
RoundingFor RoundingBy(RoundingMethod method, const Calibration& calibration, const ModelConfig& config,
                       ThreadPool& pool);

}  // namespace thimble

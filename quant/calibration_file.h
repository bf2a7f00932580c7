// A calibration on disk, so that another budget does not have to calibrate again: a GGUF with general.type
// "calibration", of F32.
#pragma once

#include <string>

#include "base/result.h"
#include "quant/calibration.h"

namespace thimble {

// `key` says what the calibration was made from.
Status SaveCalibration(const Calibration& calibration, const std::string& key, const std::string& path);
// Error kInvalidArgument if the file has another key or other shapes than the model's layers.
Result<Calibration> LoadCalibration(const Model& model, const std::string& key, const std::string& path);

}  // namespace thimble

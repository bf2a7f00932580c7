// Hugging Face folders whose matrices GPTQ, AWQ or compressed-tensors quantized: config.json's
// "quantization_config" and the tensors that stand for a matrix (docs/formats/quantized_checkpoints.md).
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/coded_matrix.h"
#include "formats/tensor_table.h"

namespace thimble {

// Takes the tensors of such matrices out of `tensors`; their bytes must stay. `path` is the folder, for
// errors: kUnsupported for other methods, layouts and bits; kNotFound and kCorrupt for tensors that are
// missing or do not fit each other.
Result<std::vector<CodedMatrix>> TakeCodedMatrices(const Json& quantization_config, const std::string& path,
                                                   TensorTable& tensors);

}  // namespace thimble

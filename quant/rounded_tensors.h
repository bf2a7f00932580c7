// A model's matrices as they were rounded to each of several types, on disk: a GGUF for each type, so that a
// choice of types is made into a file by copying.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/result.h"
#include "formats/gguf.h"
#include "quant/tensor_stream.h"

namespace thimble {

class RoundedTensors {
 public:
  // What RoundedTensorsWriter wrote for the same. Error if one of the types has no file, or one of another
  // key.
  static Result<RoundedTensors> Open(const std::string& folder, const std::string& key,
                                     std::span<const WeightType> types,
                                     std::span<const ExportTensor> tensors);

  // Its rows in the order of the model's source. Null: no such tensor, or not in that type.
  const TensorInfo* Find(const std::string& tensor, WeightType type) const;

 private:
  std::map<WeightType, GgufFile> files_;
};

class RoundedTensorsWriter {
 public:
  // For each type, of the tensors whose rows can hold it. `key`: what they are made from.
  static Result<RoundedTensorsWriter> Create(const std::string& folder, const std::string& key,
                                             std::span<const WeightType> types,
                                             std::span<const ExportTensor> tensors);
  static uint64_t Bytes(std::span<const WeightType> types, std::span<const ExportTensor> tensors);

  // The type's next tensor, whole.
  Status Write(WeightType type, std::span<const uint8_t> bytes) { return files_.at(type).Write(bytes); }
  Status Finish();

 private:
  std::map<WeightType, GgufWriter> files_;
};

}  // namespace thimble

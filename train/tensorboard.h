// TensorBoard's event files: scalars by step.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thimble {

class TensorBoardLog {
 public:
  // A new file events.out.tfevents.<seconds>.<process> in `directory`, which is made if it is not there.
  static Result<TensorBoardLog> Open(const std::string& directory);
  // On disk when this returns.
  void Append(int64_t step, std::string_view tag, double value);

 private:
  explicit TensorBoardLog(std::ofstream file) : file_(std::move(file)) {}
  void Write(const std::string& event);
  std::ofstream file_;
};

// CRC-32C (RFC 3720, appendix B.4), as records are checked by.
uint32_t Crc32c(std::string_view bytes);

}  // namespace thimble

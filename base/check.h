// CHECK is for our own bugs, never for input, and stays on in release builds.
#pragma once

namespace thimble {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace thimble

#define CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::thimble::CheckFailed(__FILE__, __LINE__, #condition))

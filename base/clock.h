// Elapsed time, for rates and progress.
#pragma once

#include <chrono>

namespace thimble {

// Seconds on a clock that never goes back; only differences mean something.
inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace thimble

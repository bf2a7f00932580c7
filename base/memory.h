#pragma once

#include <cstdint>

namespace thimble {

// High-water mark of the process's resident memory, in bytes.
int64_t PeakRssBytes();

}  // namespace thimble

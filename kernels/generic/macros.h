// Compiler attributes, and reading at any address; shared by the kernel units.
#pragma once

#include <string.h>

// Internal linkage and always inlined: nothing from a kernel unit may be merged with baseline code.
#define THIMBLE_INLINE static inline __attribute__((always_inline))

// Before a loop with a constant trip count whose array must live in registers.
#if defined(__clang__)
#define THIMBLE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define THIMBLE_UNROLL _Pragma("GCC unroll 32")
#endif

namespace thimble {

template <typename T>
THIMBLE_INLINE T LoadAs(const void* p) {
  T value;
  memcpy(&value, p, sizeof(value));
  return value;
}

}  // namespace thimble

// Activations rounded to BF16, as its products take them.
#pragma once

#include "ops/tensor.h"

namespace thimble {

// Numbers from row to row. Rows that lie a multiple of 4 KiB apart would evict each other from the
// first-level cache.
constexpr int64_t Bf16Stride(int64_t n) {
  return (n + 31) / 32 * 32 + 32;
}

// Rows in a tensor's memory; copies share it.
struct Bf16Rows {
  Tensor memory;
  int64_t stride = 0;

  static Bf16Rows Empty(int64_t m, int64_t n) {
    const int64_t stride = Bf16Stride(n);
    return {Tensor::Empty(m, stride / 2), stride};
  }
  explicit operator bool() const { return static_cast<bool>(memory); }
  uint16_t* row(int64_t i) const { return reinterpret_cast<uint16_t*>(memory.row(i)); }
};

}  // namespace thimble

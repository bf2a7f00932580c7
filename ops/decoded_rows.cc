#include "ops/decoded_rows.h"

#include <vector>

namespace thimble {

float* Scratch(int64_t n) {
  thread_local std::vector<float> buffer;
  if (buffer.size() < static_cast<size_t>(n)) buffer.resize(static_cast<size_t>(n));
  return buffer.data();
}

uint8_t* PackedScratch(size_t bytes) {
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  thread_local std::vector<Line> buffer;
  const size_t n = (bytes + sizeof(Line) - 1) / sizeof(Line);
  if (buffer.size() < n) buffer.resize(n);
  return buffer.data()->bytes;
}

const float* DecodedRows(const Context& ctx, const Weight& w, int64_t first, int64_t n, float* scratch) {
  if (w.type == WeightType::kF32) return reinterpret_cast<const float*>(w.row(first));
  const auto decode = ctx.kernels.decode_row[static_cast<int>(w.type)];
  for (int64_t j = 0; j < n; ++j) decode(w.row(first + j), scratch + j * w.n_in, w.n_in);
  return scratch;
}

bool IsDecodedToBf16(const Context& ctx, const Weight& w) {
  return ctx.compute == Compute::kBf16 && ctx.kernels.matmul_bf16 != nullptr && w.n_in % 2 == 0 &&
         w.n_out % 2 == 0;
}

}  // namespace thimble

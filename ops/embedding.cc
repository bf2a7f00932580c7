#include "ops/embedding.h"

#include <vector>

#include "base/check.h"

namespace thimble {

Tensor Embedding(const Context& ctx, const Weight& w, std::span<const int32_t> ids, float scale) {
  Tensor y = Tensor::Empty(static_cast<int64_t>(ids.size()), w.n_in);
  const auto decode = ctx.kernels.decode_row[static_cast<int>(w.type)];
  thread_local std::vector<uint8_t> bytes;
  bytes.resize(RowBytes(w.type, w.n_in));
  for (size_t i = 0; i < ids.size(); ++i) {
    CHECK(ids[i] >= 0 && ids[i] < w.n_out);
    float* row = y.row(static_cast<int64_t>(i));
    if (w.packed != nullptr) {
      w.packed->CopyRows(w, ids[i], 1, bytes.data());
      decode(bytes.data(), row, w.n_in);
    } else {
      decode(w.row(ids[i]), row, w.n_in);
    }
    if (scale != 1) {
      for (int64_t j = 0; j < w.n_in; ++j) row[j] *= scale;
    }
  }
  if (!ctx.Records({w.trained})) return y;
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, trained = w.trained, ids = std::vector(ids.begin(), ids.end()), scale, y] {
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t cols = y.cols();
      ctx.kernels.axpy(scale, y.grad() + static_cast<int64_t>(i) * cols, trained.grad() + ids[i] * cols,
                       cols);
    }
  });
  return y;
}

}  // namespace thimble

#include "ops/embedding.h"

#include "base/check.h"

namespace thimble {

Tensor Embedding(const Context& ctx, const Weight& w, std::span<const int32_t> ids, float scale) {
  Tensor y = Tensor::Empty(static_cast<int64_t>(ids.size()), w.n_in);
  const auto decode = ctx.kernels.decode_row[static_cast<int>(w.type)];
  for (size_t i = 0; i < ids.size(); ++i) {
    CHECK(ids[i] >= 0 && ids[i] < w.n_out);
    float* row = y.row(static_cast<int64_t>(i));
    decode(w.row(ids[i]), row, w.n_in);
    if (scale != 1) {
      for (int64_t j = 0; j < w.n_in; ++j) row[j] *= scale;
    }
  }
  return y;
}

}  // namespace thimble

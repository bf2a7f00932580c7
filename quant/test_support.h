// Shared by the tests that calibrate.
#pragma once

#include "model/test_support.h"
#include "quant/calibration_file.h"

namespace thimble {

// In F32, kept at `path`.
inline CalibrationFile CalibratedOrDie(ThreadPool& pool, const Model& model,
                                       const std::vector<std::vector<int32_t>>& windows,
                                       const std::string& path, uint64_t max_bytes = UINT64_MAX) {
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const Status made =
      CalibrateToFile(ctx, model, windows, {.max_seconds = 0, .max_bytes = max_bytes}, "key", path, nullptr);
  EXPECT_TRUE(made) << made.error().message;
  return CalibrationFile::Open(model, "key", path).value();
}

inline void ExpectSame(const LayerStatistics& a, const LayerStatistics& b) {
  ASSERT_EQ(a.hessian.n, b.hessian.n);
  for (int64_t i = 0; i < a.hessian.n; ++i) {  // only the lower triangle is kept
    const auto row = a.hessian.h.begin() + i * a.hessian.n;
    EXPECT_TRUE(std::equal(row, row + i + 1, b.hessian.h.begin() + i * a.hessian.n));
  }
  EXPECT_EQ(a.row_weights, b.row_weights);
  EXPECT_EQ(a.mean_squares, b.mean_squares);
}

}  // namespace thimble

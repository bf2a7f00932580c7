// How fast a model reads and writes.
#pragma once

#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "model/model.h"

namespace thimble {

struct SpeedOptions {
  int64_t n_prompt = 512, n_gen = 128;  // 0: not measured
  int64_t repeat = 5;
};

// Tokens per second of each repetition; the median is the figure.
struct SpeedResult {
  std::vector<double> prefill, decode;
  int64_t peak_rss_bytes = 0;
};

// As llama.cpp's llama-bench measures: random tokens; the prompt in one go and the generation one token after
// another, each from an empty cache, after one repetition that is not counted.
Result<SpeedResult> MeasureSpeed(const Context& ctx, const Model& model, const SpeedOptions& options,
                                 const ProgressFn& progress);

double Median(std::vector<double> values);  // 0 if there are none

}  // namespace thimble

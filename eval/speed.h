// How fast a model reads and writes, and how close that is to what the machine allows.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "model/model.h"

namespace thimble {

struct SpeedOptions {
  std::vector<int64_t> n_prompt{512}, n_gen{128};  // 0: not measured
  int64_t repeat = 5;
  KvTypes kv;  // must fit the model
};

// One test: a prompt, or a generation.
struct SpeedResult {
  int64_t n_prompt = 0, n_gen = 0;  // one of them is 0
  std::vector<double> rates;        // tokens per second of each repetition
  int64_t peak_rss_bytes = 0;       // of the process until then

  std::string Name() const;  // llama-bench's: "pp512", "tg128"
};

// As llama.cpp's llama-bench measures: random tokens; a prompt in one go and a generation one token after
// another, each from an empty cache, after a prompt and one token that are not counted. The tests take turns.
Result<std::vector<SpeedResult>> MeasureSpeed(const Context& ctx, const Model& model,
                                              const SpeedOptions& options, const ProgressFn& progress);

// Weights that products have packed so far, and how much of that took the place of the file's pages in
// memory.
struct PackedSize {
  size_t packed_bytes = 0, released_bytes = 0;
};
PackedSize MeasurePacked(const Model& model);

double Median(std::vector<double> values);  // 0 if there are none

// What one generated token costs at least: the bytes of all weights that it is multiplied with, in the file's
// types, of its embedding and, on average over a generation of n_gen tokens, of the cache.
double BytesPerToken(const Model& model, int64_t n_gen, KvTypes kv);
// Multiply-adds of a prompt's token with the linear layers (attention and, as only the last token needs them,
// logits are not counted).
double MultiplyAddsPerToken(const Model& model);

}  // namespace thimble

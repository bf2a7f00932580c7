// What one run of `thimble eval` measured, and its JSON form: the file that reports and scripts read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/exact_match.h"
#include "eval/perplexity.h"

namespace thimble {

struct EvalRecord {
  std::string name;   // what pictures and tables call the model
  std::string model;  // path
  std::string command, version;
  std::string compute;  // "int8" or "f32"
  std::vector<std::string> adapters;
  ModelSize size;
  std::string text, reference;  // paths, or empty
  int64_t n_ctx = 0;
  std::optional<PerplexityResult> perplexity;
  std::optional<ModelSize> reference_size;
  std::vector<LayerError> layers;
  std::string data;  // path of the prompts, or empty
  std::optional<ExactMatchResult> exact_match;
};

// Always with the keys ppl, ppl_se, kld_mean, kld_median, kld_p99, top1_agreement, bytes (of the file),
// bits_per_weight, tokens_per_second, peak_rss_bytes and n_tokens; null where something was not measured.
Json ToJson(const EvalRecord& record);

}  // namespace thimble

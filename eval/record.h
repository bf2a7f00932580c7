// What one run of `thimble eval` measured, and its JSON form: the file that reports and scripts read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/exact_match.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"

namespace thimble {

struct TextResult {
  std::string name, path;
  PerplexityResult result;
};

struct TaskResult {
  std::string name, path;
  ChoiceResult result;
};
// {"name", "task", "total", "acc", "acc_interval", "acc_norm", "acc_norm_interval", "items"}; intervals are
// Wilson's.
Json ToJson(const TaskResult& task);

// A file that went in.
struct EvalInput {
  std::string path;
  int64_t bytes = 0;
  std::string sha256;
};
Json ToJson(const EvalInput& input);

struct EvalRecord {
  std::string name;   // what pictures and tables call the model
  std::string model;  // path
  std::string command, version;
  std::string compute;  // "int8" or "f32"
  std::vector<std::string> adapters;
  ModelSize size;
  std::string reference;  // path, or empty
  int64_t n_ctx = 0;
  std::vector<TextResult> texts;
  int64_t peak_rss_bytes = 0;  // of the process while it held the model alone
  std::optional<int64_t> reference_bytes;
  std::vector<LayerError> layers;
  std::string data;  // path of the prompts, or empty
  std::optional<ExactMatchResult> exact_match;
  std::vector<TaskResult> tasks;
  std::vector<EvalInput> inputs;
  // What a training run says of itself in its summary.json, where the adapter or the model is of one; or
  // null.
  Json training = {};

  // Over all texts as if they were one; nothing without texts.
  std::optional<PerplexityResult> perplexity() const;
};

// Always with the keys ppl, ppl_se, kld_mean, kld_median, kld_p99, top1_agreement, bytes (of the file),
// bits_per_weight, tokens_per_second, peak_rss_bytes and n_tokens, over all texts; null where something was
// not measured. "texts" has the same for each.
Json ToJson(const EvalRecord& record);

}  // namespace thimble

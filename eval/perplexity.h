// Perplexity of a text, and how far a model's predictions are from a reference's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/result.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace thimble {

// Windows and scoring are those of llama.cpp's perplexity tool: windows of n_ctx tokens that do not overlap,
// the first token of each replaced by BOS if the model adds one, predictions of the second half scored.
struct PerplexityOptions {
  int64_t n_ctx = 512;
  int64_t max_windows = 0;                    // 0: all
  std::string reference;                      // path of a model to compare with, or empty
  std::vector<AppliedAdapter> adapters = {};  // on the model, not on the reference
  std::optional<KvTypes> kv = {};             // the model sees its keys and values through such a cache
};

struct PerplexityResult {
  int64_t n_tokens = 0;  // scored
  double ppl = 0, ppl_se = 0;
  // Against the reference (computed in F32), over scored tokens; KL(reference || model) in nats.
  std::optional<double> reference_ppl, kld_mean, kld_se, kld_median, kld_p99, top1_agreement;
  double tokens_per_second = 0;  // tokens run through the model, scored or not
  int64_t peak_rss_bytes = 0;    // of the process while it held the model alone
  std::vector<float> kld;        // per scored token
};

Result<PerplexityResult> MeasurePerplexity(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                           const std::string& text, const PerplexityOptions& options,
                                           const ProgressFn& progress);

// Size on disk of what the weights occupy, and per parameter.
struct ModelSize {
  int64_t file_bytes = 0, weight_bytes = 0, n_parameters = 0;
  double bits_per_weight() const {
    return 8.0 * static_cast<double>(weight_bytes) / static_cast<double>(n_parameters);
  }
};
ModelSize MeasureSize(const Model& model);

// Relative error |W - R| / |R| of each linear layer against the reference's; empty if the two
// models do not have the same layers.
struct LayerError {
  int64_t layer;
  std::string module;  // "q_proj"
  std::string type;    // the model's weight type
  double relative_error;
};
std::vector<LayerError> MeasureLayerErrors(const Context& ctx, const Model& model, const Model& reference);

// High-water mark of resident memory, in bytes.
int64_t PeakRssBytes();

}  // namespace thimble

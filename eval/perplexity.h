// Perplexity of a text, and how far a model's predictions are from a reference's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/result.h"
#include "eval/prediction.h"
#include "eval/saved_reference.h"
#include "eval/token_windows.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace thimble {

struct PerplexityOptions {
  std::vector<AppliedAdapter> adapters = {};  // on the model, not on the reference
  std::optional<KvTypes> kv = {};             // the model sees its keys and values through such a cache
  // What to compare with, one at most: a model, computed in F32, or predictions that must cover the windows.
  const Model* reference = nullptr;
  const SavedReference* saved_reference = nullptr;
  SavedReference* save = nullptr;  // receives this model's predictions
};

// One of the positions that are furthest from the reference.
struct WorstExample {
  double kld = 0;
  int64_t window = 0, position = 0;  // of the token before `next`
  std::string context, next;         // the text before, and the token that followed
  struct Guess {
    std::string token;
    double p;
  };
  std::vector<Guess> reference, model;  // the three most likely, most likely first
};

struct PerplexityResult {
  int64_t n_tokens = 0;  // scored, as many in each window
  int64_t n_windows = 0;
  double ppl = 0, ppl_se = 0;
  // Against the reference, over scored tokens; KL(reference || model) in nats.
  std::optional<double> reference_ppl, kld_mean, kld_se, kld_median, kld_p99, top1_agreement;
  double seconds = 0;               // of running the model
  double tokens_per_second = 0;     // tokens run through the model, scored or not
  std::vector<TokenScore> scores;   // windows one after another
  std::vector<WorstExample> worst;  // ten, the worst first; empty without a reference
};

// Ranks share the windows; `save` needs one rank.
Result<PerplexityResult> MeasurePerplexity(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                           const TokenWindows& windows, const PerplexityOptions& options,
                                           const ProgressFn& progress);

// The mean divergence of each window: tokens of a window are read in the same context and so are not
// independent; windows nearly are.
std::vector<double> WindowDivergences(const PerplexityResult& result);

// Several texts as if they were one.
PerplexityResult Pool(const std::vector<const PerplexityResult*>& results);

// The process's resident memory at its highest, once the model has run one window; weights are then packed.
int64_t MeasurePeakMemory(const Context& ctx, const Model& model, const TokenWindows& windows,
                          const PerplexityOptions& options);

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

}  // namespace thimble

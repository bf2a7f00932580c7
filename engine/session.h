// One conversation with a model: its cache, its adapters, generation with stop conditions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/cached_model.h"
#include "engine/drafter.h"
#include "engine/sampler.h"
#include "kernels/kernels.h"
#include "text/tokenizer.h"

namespace thimble {

// Tokens are guessed and read ahead, as many as is worth it; the answer is the same as without.
struct DraftOptions {
  static constexpr int64_t kMost = kFewRows - 1;  // read with the token before them as if one by one
  Drafter* drafter = nullptr;                     // none: nothing is guessed
  int64_t min = 0, max = 7;                       // tokens; a guess of fewer than `min` is not used
};

struct GenerateOptions {
  int64_t max_tokens = -1;        // -1: until the model ends or the context is full
  std::vector<std::string> stop;  // ends before any of these strings
  bool ignore_eos = false;
  SamplingParams sampling;
  DraftOptions draft;
};

enum class FinishReason { kStop, kLength, kContextFull, kCancelled };

struct Generation {
  std::string text;
  std::vector<TokenId> tokens;
  FinishReason reason = FinishReason::kStop;
  int64_t n_prompt = 0, n_cached = 0;     // prompt tokens, and how many of them the cache already held
  int64_t n_drafted = 0, n_accepted = 0;  // tokens guessed, and how many of them came true
  double prompt_seconds = 0, decode_seconds = 0;
};

// Receives text as it comes, whole UTF-8 characters only, never part of a stop string. Returns false to
// cancel.
using TextFn = std::function<bool(const std::string&)>;

class Session {
 public:
  // `n_ctx` 0: the model's own context length, at most 4096. `kv` must fit the model (KvCache::Check).
  Session(const Context& ctx, const Model& model, const Tokenizer& tokenizer, int64_t n_ctx = 0,
          KvTypes kv = {});

  // Applies to what follows; the cache is cleared.
  void SetAdapters(std::vector<AppliedAdapter> adapters) { model_.SetAdapters(std::move(adapters)); }

  // Continues `prompt`, which is the whole conversation so far: what it shares with the last call's tokens
  // stays in the cache. A prompt that does not fit is refused: the context is never shifted.
  Result<Generation> Generate(const std::vector<TokenId>& prompt, const GenerateOptions& options,
                              const TextFn& on_text = nullptr);

  int64_t n_ctx() const { return model_.capacity(); }

 private:
  Status CheckPrompt(const std::vector<TokenId>& prompt) const;

  const Tokenizer& tokenizer_;
  CachedModel model_;
};

}  // namespace thimble

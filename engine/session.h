// One conversation with a model: its cache, its adapters, generation with stop conditions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/sampler.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace thimble {

struct GenerateOptions {
  int64_t max_tokens = -1;        // -1: until the model ends or the context is full
  std::vector<std::string> stop;  // ends before any of these strings
  bool ignore_eos = false;
  SamplingParams sampling;
};

enum class FinishReason { kStop, kLength, kContextFull, kCancelled };

struct Generation {
  std::string text;
  std::vector<TokenId> tokens;
  FinishReason reason = FinishReason::kStop;
  int64_t n_prompt = 0, n_cached = 0;  // prompt tokens, and how many of them the cache already held
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

  // Applies to what follows; the cache is cleared, since its keys and values depend on the adapters.
  void SetAdapters(std::vector<AppliedAdapter> adapters);

  // Continues `prompt`, which is the whole conversation so far: what it shares with the last call's tokens
  // stays in the cache. A prompt that does not fit is refused: the context is never shifted.
  Result<Generation> Generate(const std::vector<TokenId>& prompt, const GenerateOptions& options,
                              const TextFn& on_text = nullptr);

  int64_t n_ctx() const { return cache_.capacity(); }

 private:
  // Runs tokens through the model; logits of the last one.
  Tensor Feed(std::span<const TokenId> tokens);

  Context ctx_;
  const Model& model_;
  const Tokenizer& tokenizer_;
  KvCache cache_;
  std::vector<AppliedAdapter> adapters_;
  std::vector<TokenId> history_;  // what the cache holds
};

}  // namespace thimble

// Guesses at the tokens to come, which the model then checks in one pass (speculative decoding: Leviathan et
// al. 2023, Chen et al. 2023).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/cached_model.h"
#include "engine/sampler.h"

namespace thimble {

class Drafter {
 public:
  virtual ~Drafter() = default;
  // At most `max` tokens that may follow `history`; none if there is nothing to go by. `sampler` is in the
  // state in which the model's next token will be drawn.
  virtual std::vector<TokenId> Draft(std::span<const TokenId> history, int64_t max,
                                     const Sampler& sampler) = 0;
};

// Prompt lookup (Saxena 2023): what came after the last few tokens when they came before. Of all places the
// one with the longest match, and of those the last.
class NgramDrafter : public Drafter {
 public:
  std::vector<TokenId> Draft(std::span<const TokenId> history, int64_t max, const Sampler& sampler) override;
};

// A smaller model with the same vocabulary. It draws as the model will, from its own distributions.
class ModelDrafter : public Drafter {
 public:
  // Refuses a tokenizer that is not the target's. `n_ctx`: the target's.
  static Result<std::unique_ptr<ModelDrafter>> Create(const Context& ctx, const Model& model,
                                                      const Tokenizer& tokenizer, const Tokenizer& target,
                                                      int64_t n_ctx);
  std::vector<TokenId> Draft(std::span<const TokenId> history, int64_t max, const Sampler& sampler) override;

 private:
  ModelDrafter(const Context& ctx, const Model& model, int64_t n_ctx, TokenId n_shared)
      : model_(ctx, model, n_ctx), n_shared_(n_shared) {}
  CachedModel model_;
  TokenId n_shared_;  // ids below this one are in both vocabularies
};

}  // namespace thimble

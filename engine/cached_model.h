// A model and what it has read: the keys and values of one sequence of tokens.
#pragma once

#include <span>
#include <vector>

#include "model/model.h"
#include "text/tokenizer.h"

namespace thimble {

class CachedModel {
 public:
  // `kv` must fit the model (KvCache::Check).
  CachedModel(const Context& ctx, const Model& model, int64_t capacity, KvTypes kv = {});

  // Applies to what follows; the cache is cleared, since its keys and values depend on the adapters.
  void SetAdapters(std::vector<AppliedAdapter> adapters);

  // How many of `tokens` need not be read again.
  int64_t Cached(std::span<const TokenId> tokens) const;
  // Logits [n, vocab_size] after each of the last `n` of `tokens`: reads what the cache does not hold, and
  // these `n` always. `tokens` must fit (CHECKed).
  Tensor Read(std::span<const TokenId> tokens, int64_t n = 1);
  // Forgets what was read beyond the first `n` tokens.
  void Truncate(int64_t n);

  const ModelConfig& config() const { return model_.config(); }
  int64_t capacity() const { return cache_.capacity() - n_virtual_; }

 private:
  Context ctx_;
  const Model& model_;
  KvCache cache_;
  std::vector<AppliedAdapter> adapters_;
  int64_t n_virtual_ = 0;        // the cache's first positions: what adapters put before the tokens
  std::vector<TokenId> tokens_;  // what the cache holds after them
};

}  // namespace thimble

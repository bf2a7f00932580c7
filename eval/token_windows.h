// A text as the windows of tokens that are scored: llama.cpp's, of its perplexity tool.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace thimble {

// Windows of n_ctx tokens that do not overlap, the first token of each replaced by BOS if the model adds one.
// Scored is what is predicted in the second half of each.
struct TokenWindows {
  int64_t n_ctx = 0;
  std::vector<TokenId> tokens;  // size() * n_ctx

  int64_t size() const { return static_cast<int64_t>(tokens.size()) / n_ctx; }
  std::span<const TokenId> operator[](int64_t i) const {
    return {tokens.data() + i * n_ctx, static_cast<size_t>(n_ctx)};
  }
  // Positions [n_ctx / 2, n_ctx - 1) predict the token after them.
  int64_t first_scored() const { return n_ctx / 2; }
  int64_t n_scored() const { return n_ctx - 1 - n_ctx / 2; }
};

// The first `max_windows` windows (0: all) of a text, for a model with `vocab_size` embeddings. Refuses a
// text of less than one window.
Result<TokenWindows> SplitIntoWindows(const Tokenizer& tokenizer, const std::string& text, int64_t n_ctx,
                                      int64_t max_windows, int64_t vocab_size);

}  // namespace thimble

#include "eval/token_windows.h"

#include <algorithm>

namespace thimble {

Result<TokenWindows> SplitIntoWindows(const Tokenizer& tokenizer, const std::string& text, int64_t n_ctx,
                                      int64_t max_windows, int64_t vocab_size) {
  if (n_ctx < 4)
    return MakeError(ErrorCode::kInvalidArgument, "a window needs at least 4 tokens, not {}", n_ctx);
  TokenWindows windows{.n_ctx = n_ctx, .tokens = tokenizer.Encode(text, true, false)};
  int64_t n_windows = windows.size();
  if (n_windows < 1) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the text has {} tokens; one window needs at least {}: give a longer text or a smaller "
                     "--ctx-size",
                     windows.tokens.size(), n_ctx);
  }
  if (max_windows > 0) n_windows = std::min(n_windows, max_windows);
  windows.tokens.resize(static_cast<size_t>(n_windows * n_ctx));
  const auto unknown = std::find_if(windows.tokens.begin(), windows.tokens.end(),
                                    [&](TokenId id) { return id >= vocab_size; });
  if (unknown != windows.tokens.end()) {
    return MakeError(ErrorCode::kCorrupt, "the tokenizer gives id {}, the model has {} embeddings", *unknown,
                     vocab_size);
  }
  if (tokenizer.spec().add_bos && tokenizer.spec().bos) {
    for (int64_t i = 0; i < n_windows; ++i) {
      windows.tokens[static_cast<size_t>(i * n_ctx)] = *tokenizer.spec().bos;
    }
  }
  return windows;
}

}  // namespace thimble

#include "engine/drafter.h"

#include <algorithm>
#include <cstdlib>

namespace thimble {
namespace {

// A match of fewer tokens is wrong too often to pay (docs/speculative.md); one of more finds no better
// places.
constexpr int64_t kMinMatch = 4, kMaxMatch = 8;

// Vocabularies of one family may differ in the padding at their end (llama.cpp's limit).
constexpr int64_t kMaxPadding = 128;

}  // namespace

std::vector<TokenId> NgramDrafter::Draft(std::span<const TokenId> history, int64_t max, const Sampler&) {
  const int64_t n = static_cast<int64_t>(history.size());
  int64_t longest = kMinMatch - 1, next = n;  // what follows the match
  for (int64_t end = n - 1; end > longest && longest < kMaxMatch; --end) {
    int64_t length = 0;
    while (length < std::min(end, kMaxMatch) && history[end - 1 - length] == history[n - 1 - length])
      ++length;
    if (length > longest) {
      longest = length;
      next = end;
    }
  }
  std::vector<TokenId> draft;
  if (next == n) return draft;
  // Past the end the draft copies itself: a repetition goes on.
  for (int64_t i = 0; i < max; ++i, ++next) draft.push_back(next < n ? history[next] : draft[next - n]);
  return draft;
}

Result<std::unique_ptr<ModelDrafter>> ModelDrafter::Create(const Context& ctx, const Model& model,
                                                           const Tokenizer& tokenizer,
                                                           const Tokenizer& target, int64_t n_ctx) {
  const TokenizerSpec &draft = tokenizer.spec(), &wanted = target.spec();
  const std::string& path = model.file().path;
  const int64_t n_draft = static_cast<int64_t>(draft.tokens.size());
  const int64_t n_wanted = static_cast<int64_t>(wanted.tokens.size());
  if (std::abs(n_draft - n_wanted) > kMaxPadding) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "{}: a draft model needs the vocabulary of the model that it drafts for; this one has {} tokens, "
        "not {}",
        path, n_draft, n_wanted);
  }
  const int64_t n = std::min({n_draft, n_wanted, model.config().vocab_size});
  for (int64_t id = 0; id < n; ++id) {
    if (draft.tokens[id] == wanted.tokens[id]) continue;
    return MakeError(
        ErrorCode::kInvalidArgument,
        "{}: a draft model needs the vocabulary of the model that it drafts for; token {} is \"{}\" here, "
        "not \"{}\"",
        path, id, draft.tokens[id], wanted.tokens[id]);
  }
  return std::unique_ptr<ModelDrafter>(new ModelDrafter(ctx, model, n_ctx, static_cast<TokenId>(n)));
}

std::vector<TokenId> ModelDrafter::Draft(std::span<const TokenId> history, int64_t max,
                                         const Sampler& sampler) {
  std::vector<TokenId> tokens(history.begin(), history.end());
  const auto known = [&](TokenId id) { return id < n_shared_; };
  if (!std::all_of(tokens.begin(), tokens.end(), known)) return {};
  Sampler draw = sampler;
  for (int64_t i = 0; i < max; ++i) {
    const Tensor logits = model_.Read(tokens);
    const TokenId id = draw.Sample({logits.data(), static_cast<size_t>(logits.cols())}, tokens);
    if (!known(id)) break;
    tokens.push_back(id);
  }
  return {tokens.begin() + static_cast<ptrdiff_t>(history.size()), tokens.end()};
}

}  // namespace thimble

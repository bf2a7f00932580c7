#include "engine/cached_model.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace thimble {
namespace {

constexpr int64_t kPrefillChunk = 512;

}  // namespace

CachedModel::CachedModel(const Context& ctx, const Model& model, int64_t capacity, KvTypes kv)
    : ctx_(ctx), model_(model), cache_(model.config(), capacity, kv) {}

void CachedModel::SetAdapters(std::vector<AppliedAdapter> adapters) {
  std::erase_if(adapters, [](const AppliedAdapter& a) { return a.scale == 0; });
  adapters_ = std::move(adapters);
  tokens_.clear();
  cache_ = StartSequence(ctx_, model_, adapters_, capacity(), cache_.types());
  n_virtual_ = cache_.length();
}

int64_t CachedModel::Cached(std::span<const TokenId> tokens) const {
  return std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin(), tokens.end()).first - tokens_.begin();
}

Tensor CachedModel::Read(std::span<const TokenId> tokens, int64_t n) {
  const int64_t n_tokens = static_cast<int64_t>(tokens.size());
  CHECK(n > 0 && n <= std::min(n_tokens, kPrefillChunk) && n_tokens <= capacity());
  Truncate(std::min(Cached(tokens), n_tokens - n));
  Tensor hidden;
  // The wanted rows stand in the last piece.
  for (int64_t begin = static_cast<int64_t>(tokens_.size()); begin < n_tokens;) {
    const int64_t left = n_tokens - begin;
    const int64_t size = left <= kPrefillChunk ? left : std::min(kPrefillChunk, left - n);
    const auto piece = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(size));
    hidden = ForwardHidden(ctx_, model_, {.tokens = piece, .cache = &cache_, .adapters = adapters_});
    tokens_.insert(tokens_.end(), piece.begin(), piece.end());
    begin += size;
  }
  Tensor last = Tensor::Empty(n, hidden.cols());
  std::memcpy(last.data(), hidden.row(hidden.rows() - n), static_cast<size_t>(last.size()) * sizeof(float));
  return Logits(ctx_, model_, last);
}

void CachedModel::Truncate(int64_t n) {
  if (n >= static_cast<int64_t>(tokens_.size())) return;
  tokens_.resize(static_cast<size_t>(n));
  cache_.Truncate(n_virtual_ + n);
}

}  // namespace thimble

#include "text/spm_scores.h"

#include <algorithm>
#include <unordered_map>

#include "text/utf8.h"

namespace thimble {
namespace {

// Longer tokens come from no trainer, and trying every cut of one takes the square of its length.
constexpr size_t kMaxMergedLength = 1024;

using Ids = std::unordered_map<std::string_view, TokenId>;

// Calls `split(left, right)` for each cut of `token` into two tokens of `ids`.
template <typename Split>
void ForEachSplit(std::string_view token, const Ids& ids, const Split& split) {
  if (token.size() > kMaxMergedLength) return;
  for (size_t at = 0; at < token.size();) {
    const Utf8Char c = DecodeUtf8(token.substr(at));
    at += static_cast<size_t>(c.length);
    if (at >= token.size()) break;
    const auto left = ids.find(token.substr(0, at)), right = ids.find(token.substr(at));
    if (left != ids.end() && right != ids.end()) split(left->second, right->second);
  }
}

// Tokens that text can become part by part.
Ids Mergeable(const TokenizerSpec& spec) {
  Ids ids;
  ids.reserve(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const TokenType type = spec.types[i];
    if (type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kUnused) {
      ids.emplace(spec.tokens[i], static_cast<TokenId>(i));
    }
  }
  return ids;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> MergesFromScores(const TokenizerSpec& spec) {
  struct Entry {
    float score;
    TokenId left, right;
  };
  const Ids ids = Mergeable(spec);
  const auto text = [&](TokenId id) -> const std::string& { return spec.tokens[static_cast<size_t>(id)]; };
  std::vector<Entry> entries;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (!ids.contains(spec.tokens[i])) continue;
    ForEachSplit(spec.tokens[i], ids, [&](TokenId left, TokenId right) {
      entries.push_back({spec.scores[i], left, right});
    });
  }
  // Entries come token by token, and a stable sort keeps those of one token together.
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.score > b.score; });
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(entries.size());
  for (const Entry& e : entries) merges.emplace_back(text(e.left), text(e.right));
  return merges;
}

std::vector<float> ScoresFromMerges(const TokenizerSpec& spec) {
  std::unordered_map<std::string, float> scores;
  float next = 0;  // whole numbers: exact up to 2^24 tokens
  for (const auto& [left, right] : spec.merges) {
    if (scores.try_emplace(left + right, next).second) next -= 1;
  }
  std::vector<float> out;
  out.reserve(spec.tokens.size());
  for (const std::string& token : spec.tokens) {
    const auto found = scores.find(token);
    out.push_back(found == scores.end() ? next : found->second);
  }
  return out;
}

bool ScoresSayMerges(const TokenizerSpec& spec) {
  const Ids ids = Mergeable(spec);
  std::unordered_map<std::string_view, size_t> splits;  // how many the vocabulary allows
  size_t total = 0;
  for (const auto& [token, id] : ids) {
    size_t n = 0;
    ForEachSplit(token, ids, [&](TokenId, TokenId) { ++n; });
    splits.emplace(token, n);
    total += n;
  }
  if (total != spec.merges.size()) return false;
  for (size_t i = 0; i < spec.merges.size();) {
    const std::string merged = spec.merges[i].first + spec.merges[i].second;
    const auto found = splits.find(merged);
    if (found == splits.end()) return false;
    size_t n = 0;
    for (; i < spec.merges.size() && spec.merges[i].first + spec.merges[i].second == merged; ++i) ++n;
    if (n != found->second) return false;
  }
  return true;
}

}  // namespace thimble

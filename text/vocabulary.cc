#include "text/vocabulary.h"

#include <algorithm>
#include <limits>

#include "text/byte_alphabet.h"
#include "text/known_tokens.h"

namespace thimble {
namespace {

// "<0x0A>" is byte 10.
std::string ByteTokenText(int byte) {
  return fmt::format("<0x{:02X}>", byte);
}

bool IsSpecial(TokenType type) {
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

}  // namespace

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t done = 0, found;
  while ((found = text.find(from, done)) != std::string_view::npos) {
    out.append(text, done, found - done).append(to);
    done = found + from.size();
  }
  return out.append(text, done);
}

Status Vocabulary::Index(const std::string& source) {
  const size_t n = spec.tokens.size();
  if (n == 0 || n > static_cast<size_t>(std::numeric_limits<TokenId>::max())) {
    return MakeError(ErrorCode::kCorrupt, "{}: a vocabulary of {} tokens", source, n);
  }
  if (spec.types.size() != n) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} token types for {} tokens", source, spec.types.size(), n);
  }
  RETURN_IF_ERROR(CheckIds(source));
  std::sort(spec.lstrip.begin(), spec.lstrip.end());
  std::sort(spec.rstrip.begin(), spec.rstrip.end());
  by_text = TokenIndex(spec.tokens);
  for (size_t i = 0; i < n; ++i) {
    if (spec.tokens[i].empty()) continue;  // never found, writes nothing
    if (const TokenId other = by_text.Add(static_cast<TokenId>(i)); other >= 0) {
      return MakeError(ErrorCode::kCorrupt, "{}: tokens {} and {} are both \"{}\"", source, other, i,
                       spec.tokens[i]);
    }
  }
  IndexByteIds();
  IndexSpecial();
  if (spec.model == TokenizerModel::kByteBpe || !spec.merges.empty()) {
    RETURN_IF_ERROR(IndexMerges(source));
  } else {
    if (spec.scores.size() != n) {
      return MakeError(ErrorCode::kCorrupt, "{}: {} scores for {} tokens", source, spec.scores.size(), n);
    }
    IndexScores();
  }
  if (spec.model == TokenizerModel::kSentencePieceBpe) IndexSpaces();
  return {};
}

Status Vocabulary::CheckIds(const std::string& source) const {
  std::vector<TokenId> ids;
  for (const auto& id : {spec.bos, spec.eos, spec.unk, spec.pad, spec.eot}) {
    if (id) ids.push_back(*id);
  }
  for (const auto* list : {&spec.extra_eog, &spec.lstrip, &spec.rstrip}) {
    ids.insert(ids.end(), list->begin(), list->end());
  }
  for (TokenId id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= spec.tokens.size()) {
      return MakeError(ErrorCode::kCorrupt, "{}: special token id {} is outside the vocabulary of {}", source,
                       id, spec.tokens.size());
    }
  }
  return {};
}

Status Vocabulary::IndexMerges(const std::string& source) {
  merges = MergeTable(spec.merges.size());
  std::string text;
  TokenId merged = -1;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    text.assign(left).append(right);
    // Most vocabularies have the merged tokens in the order of the merges.
    const auto next = static_cast<size_t>(merged + 1);
    merged = next < spec.tokens.size() && spec.tokens[next] == text ? merged + 1 : Find(text);
    const TokenId l = Find(left), r = Find(right);
    if (l < 0 || r < 0 || merged < 0) {
      return MakeError(ErrorCode::kCorrupt, "{}: merge {}: \"{}\" is not in the vocabulary", source, i,
                       l < 0   ? left
                       : r < 0 ? right
                               : text);
    }
    merges.Add(l, r, {static_cast<int32_t>(i), merged});
  }
  return {};
}

void Vocabulary::IndexScores() {
  std::vector<TokenId> order(spec.tokens.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
  const auto score = [this](TokenId id) { return spec.scores[static_cast<size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return score(a) > score(b); });
  ranks.resize(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const auto id = static_cast<size_t>(order[i]);
    const bool ties = i > 0 && score(order[i]) == score(order[i - 1]);
    ranks[id] = ties ? ranks[static_cast<size_t>(order[i - 1])] : static_cast<int32_t>(i);
    longest = std::max(longest, spec.tokens[id].size());
  }
  // Text must not become these part by part.
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (IsSpecial(spec.types[i]) || spec.types[i] == TokenType::kByte) ranks[i] = -1;
  }
}

void Vocabulary::IndexByteIds() {
  const bool byte_level = spec.model == TokenizerModel::kByteBpe;
  for (int b = 0; b < 256; ++b) {
    byte_ids[static_cast<size_t>(b)] =
        Find(byte_level ? ByteToAlphabet(static_cast<unsigned char>(b)) : ByteTokenText(b));
    if (!byte_level && byte_ids[static_cast<size_t>(b)] < 0) {
      byte_ids[static_cast<size_t>(b)] = Find(std::string(1, static_cast<char>(b)));  // as llama.cpp
    }
  }
}

std::string Vocabulary::Bytes(TokenId id) const {
  const std::string& token = spec.tokens[static_cast<size_t>(id)];
  const TokenType type = spec.types[static_cast<size_t>(id)];
  if (type == TokenType::kUnused) return {};
  if (type == TokenType::kByte) {
    const auto byte = std::find(byte_ids.begin(), byte_ids.end(), id);
    return byte == byte_ids.end() ? std::string()
                                  : std::string(1, static_cast<char>(byte - byte_ids.begin()));
  }
  if (spec.model == TokenizerModel::kSentencePieceBpe) {
    return IsSpecial(type) ? token : ReplaceAll(token, kSpmSpace, " ");
  }
  return type == TokenType::kNormal ? AlphabetToBytes(token).value_or(token) : token;
}

void Vocabulary::IndexSpaces() {
  for (const std::string& token : spec.tokens) {
    for (size_t at = token.find(kSpmSpace, 1); at != std::string::npos; at = token.find(kSpmSpace, at + 1)) {
      if (!std::string_view(token).substr(0, at).ends_with(kSpmSpace)) {
        before_space.set(static_cast<unsigned char>(token[at - 1]));
      }
    }
  }
}

void Vocabulary::IndexSpecial() {
  std::vector<std::pair<std::string_view, TokenId>> all, always;
  ends_generation.resize(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const bool user = spec.types[i] == TokenType::kUserDefined;
    if (!user && !IsSpecial(spec.types[i])) continue;
    all.emplace_back(spec.tokens[i], static_cast<TokenId>(i));
    if (user) always.push_back(all.back());
    const KnownToken* known = FindKnownToken(spec.tokens[i]);
    ends_generation[i] = known != nullptr && known->ends_generation;
  }
  special = SpecialTokens(std::move(all));
  user_defined = SpecialTokens(std::move(always));
  for (const std::optional<TokenId>& id : {spec.eos, spec.eot}) {
    if (id) ends_generation[static_cast<size_t>(*id)] = true;
  }
  for (TokenId id : spec.extra_eog) ends_generation[static_cast<size_t>(id)] = true;
}

}  // namespace thimble

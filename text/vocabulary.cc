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

TokenId Vocabulary::Find(std::string_view token) const {
  const auto found = by_text.find(token);
  return found == by_text.end() ? -1 : found->second;
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
  by_text.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    const std::string& token = spec.tokens[i];
    if (token.empty()) continue;  // never found, writes nothing
    const auto [other, is_new] = by_text.try_emplace(token, static_cast<TokenId>(i));
    if (!is_new) {
      return MakeError(ErrorCode::kCorrupt, "{}: tokens {} and {} are both \"{}\"", source, other->second, i,
                       token);
    }
  }
  IndexBytes();
  IndexSpecial();
  if (spec.model == TokenizerModel::kByteBpe || !spec.merges.empty()) {
    RETURN_IF_ERROR(IndexMerges(source));
  } else {
    if (spec.scores.size() != n) {
      return MakeError(ErrorCode::kCorrupt, "{}: {} scores for {} tokens", source, spec.scores.size(), n);
    }
    IndexScores();
  }
  for (const std::string& token : spec.tokens) {
    for (size_t at = token.find(kSpmSpace, 1); at != std::string::npos; at = token.find(kSpmSpace, at + 1)) {
      if (!std::string_view(token).substr(0, at).ends_with(kSpmSpace)) {
        before_space.set(static_cast<unsigned char>(token[at - 1]));
      }
    }
  }
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
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    const TokenId l = Find(left), r = Find(right), merged = Find(left + right);
    if (l < 0 || r < 0 || merged < 0) {
      return MakeError(ErrorCode::kCorrupt, "{}: merge {}: \"{}\" is not in the vocabulary", source, i,
                       l < 0   ? left
                       : r < 0 ? right
                               : left + right);
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

void Vocabulary::IndexBytes() {
  byte_ids.fill(-1);
  bytes.resize(spec.tokens.size());
  const bool byte_level = spec.model == TokenizerModel::kByteBpe;
  for (int b = 0; b < 256; ++b) {
    byte_ids[static_cast<size_t>(b)] =
        Find(byte_level ? ByteToAlphabet(static_cast<unsigned char>(b)) : ByteTokenText(b));
    if (!byte_level && byte_ids[static_cast<size_t>(b)] < 0) {
      byte_ids[static_cast<size_t>(b)] = Find(std::string(1, static_cast<char>(b)));  // as llama.cpp
    }
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    const std::string& token = spec.tokens[i];
    const TokenType type = spec.types[i];
    if (type == TokenType::kUnused) continue;
    if (type == TokenType::kByte) {
      unsigned byte = 0;
      while (byte < 256 && byte_ids[byte] != static_cast<TokenId>(i)) ++byte;
      if (byte < 256) bytes[i] = std::string(1, static_cast<char>(byte));
    } else if (!byte_level) {
      bytes[i] = IsSpecial(type) ? token : ReplaceAll(token, kSpmSpace, " ");
    } else if (type == TokenType::kNormal) {
      std::optional<std::string> decoded = AlphabetToBytes(token);
      bytes[i] = decoded ? std::move(*decoded) : token;
      if (spec.ignore_merges && decoded) by_bytes.try_emplace(bytes[i], static_cast<TokenId>(i));
    } else {
      bytes[i] = token;
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

#include "text/special_tokens.h"

#include <algorithm>

namespace thimble {

SpecialTokens::SpecialTokens(std::vector<std::pair<std::string_view, TokenId>> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const auto& token) { return token.first.empty(); });
  std::sort(tokens_.begin(), tokens_.end());
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    auto& range = by_first_byte_[static_cast<unsigned char>(tokens_[i].first[0])];
    if (range.second == 0) range.first = i;
    range.second = i + 1;
  }
}

SpecialTokens::Match SpecialTokens::Find(std::string_view text, size_t begin) const {
  for (size_t at = begin; at < text.size(); ++at) {
    auto [low, high] = by_first_byte_[static_cast<unsigned char>(text[at])];
    Match match{at, 0, -1};
    // All of [low, high) share the `length` bytes at `at`; the shortest comes first.
    for (size_t length = 1; low < high; ++length) {
      if (tokens_[low].first.size() == length) {
        match.length = length;
        match.id = tokens_[low].second;
        ++low;
      }
      if (at + length == text.size()) break;
      const auto next = static_cast<unsigned char>(text[at + length]);
      const auto byte = [length](const auto& token) {
        return static_cast<unsigned char>(token.first[length]);
      };
      const auto begin_it = tokens_.begin() + low, end_it = tokens_.begin() + high;
      low = static_cast<uint32_t>(
          std::partition_point(begin_it, end_it, [&](const auto& t) { return byte(t) < next; }) -
          tokens_.begin());
      high = static_cast<uint32_t>(
          std::partition_point(begin_it, end_it, [&](const auto& t) { return byte(t) <= next; }) -
          tokens_.begin());
    }
    if (match.id >= 0) return match;
  }
  return {text.size(), 0, -1};
}

}  // namespace thimble

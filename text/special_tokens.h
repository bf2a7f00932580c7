// Finds special and added tokens written in a text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

class SpecialTokens {
 public:
  SpecialTokens() = default;
  // The views must outlive this. Empty texts are left out.
  explicit SpecialTokens(std::vector<std::pair<std::string_view, TokenId>> tokens);

  struct Match {
    size_t begin, length;
    TokenId id;  // -1: none from there on
  };
  // The leftmost match at or after `begin`, and of those that begin there the longest.
  Match Find(std::string_view text, size_t begin) const;

 private:
  std::vector<std::pair<std::string_view, TokenId>> tokens_;        // sorted
  std::array<std::pair<uint32_t, uint32_t>, 256> by_first_byte_{};  // ranges of tokens_
};

}  // namespace thimble

// Finds tokens by their text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

// A table that needs one look-up (open addressing, a power of two of slots).
class TokenIndex {
 public:
  TokenIndex() = default;
  // Of some of these tokens, which must outlive this.
  explicit TokenIndex(const std::vector<std::string>& tokens) : tokens_(tokens.data()) {
    size_t slots = 2;
    while (slots < 2 * tokens.size()) slots *= 2;
    slots_.resize(slots);
  }
  // Returns -1, or an earlier token of the same text, which then stays.
  TokenId Add(TokenId id) {
    const std::string_view text = tokens_[id];
    const uint32_t hash = Hash(text);
    Slot& slot = slots_[At(text, hash)];
    if (slot.id >= 0) return slot.id;
    slot = {hash, id};
    return -1;
  }
  // -1: not there.
  TokenId Find(std::string_view text) const { return slots_[At(text, Hash(text))].id; }

 private:
  struct Slot {
    uint32_t hash = 0;
    TokenId id = -1;
  };
  static uint32_t Hash(std::string_view text) {
    return static_cast<uint32_t>(std::hash<std::string_view>()(text));
  }
  size_t At(std::string_view text, uint32_t hash) const {
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].id >= 0 && (slots_[at].hash != hash || tokens_[slots_[at].id] != text)) {
      at = (at + 1) & (slots_.size() - 1);
    }
    return at;
  }
  const std::string* tokens_ = nullptr;
  std::vector<Slot> slots_{2};
};

}  // namespace thimble

// Byte-pair merging: the core that both kinds of tokenizer share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

struct Merge {
  int32_t rank = 0;  // the lowest merges first
  TokenId id = -1;   // of the merged token; -1: these two don't merge
};

// Merges by pairs of ids, as a table that needs one look-up (open addressing, a power of two of slots).
class MergeTable {
 public:
  explicit MergeTable(size_t n = 0) {
    size_t slots = 2;
    while (slots < 2 * n) slots *= 2;
    slots_.resize(slots);
  }
  // Keeps the first merge of a pair.
  void Add(TokenId left, TokenId right, Merge merge) {
    Slot& slot = slots_[Find(Key(left, right))];
    if (slot.merge.id < 0) slot = {Key(left, right), merge};
  }
  Merge operator()(TokenId left, TokenId right) const {
    if (left < 0 || right < 0) return {};
    return slots_[Find(Key(left, right))].merge;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  static uint64_t Key(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t Find(uint64_t key) const {
    uint64_t hash = key * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 32;
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].merge.id >= 0 && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  std::vector<Slot> slots_;
};

// Merges neighbours of one piece of text, the lowest rank first and the leftmost of equal ones, in n log n.
// Reusable, to save allocations.
class Merger {
 public:
  struct Symbol {
    std::string_view text;
    TokenId id;  // -1: not in the vocabulary
    int32_t previous = -1, next = -1;
  };

  void Clear() { symbols_.clear(); }
  void Add(std::string_view text, TokenId id) {
    const auto i = static_cast<int32_t>(symbols_.size());
    if (i > 0) symbols_.back().next = i;
    symbols_.push_back({text, id, i - 1, -1});
  }

  // `lookup(left, right)` gives the Merge of two symbols, `emit(symbol)` takes the result in order.
  template <typename Lookup, typename Emit>
  void Run(const Lookup& lookup, const Emit& emit) {
    queue_.clear();
    for (size_t i = 1; i < symbols_.size(); ++i) Consider(static_cast<int32_t>(i - 1), lookup);
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), Later);
      const Candidate best = queue_.back();
      queue_.pop_back();
      Symbol& left = symbols_[static_cast<size_t>(best.left)];
      if (left.text.empty() || left.next < 0) continue;
      Symbol& right = symbols_[static_cast<size_t>(left.next)];
      // A symbol only grows, so the same length means that neither changed since.
      if (left.text.size() + right.text.size() != best.size) continue;
      left.text = {left.text.data(), best.size};
      left.id = best.id;
      left.next = right.next;
      right.text = {};
      if (left.next >= 0) symbols_[static_cast<size_t>(left.next)].previous = best.left;
      if (left.previous >= 0) Consider(left.previous, lookup);
      Consider(best.left, lookup);
    }
    for (int32_t i = symbols_.empty() ? -1 : 0; i >= 0; i = symbols_[static_cast<size_t>(i)].next) {
      emit(symbols_[static_cast<size_t>(i)]);
    }
  }

 private:
  struct Candidate {
    int32_t rank, left;
    uint32_t size;
    TokenId id;
  };
  static bool Later(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }
  template <typename Lookup>
  void Consider(int32_t left, const Lookup& lookup) {
    const Symbol& l = symbols_[static_cast<size_t>(left)];
    if (l.next < 0) return;
    const Symbol& r = symbols_[static_cast<size_t>(l.next)];
    const Merge merge = lookup(l, r);
    if (merge.id < 0) return;
    queue_.push_back({merge.rank, left, static_cast<uint32_t>(l.text.size() + r.text.size()), merge.id});
    std::push_heap(queue_.begin(), queue_.end(), Later);
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> queue_;
};

}  // namespace thimble

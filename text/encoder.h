// Turns text into ids: one Encoder serves one Tokenizer::Encode. Inside of text/ only.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/merge.h"
#include "text/vocabulary.h"

namespace thimble {

class Encoder {
 public:
  explicit Encoder(const Vocabulary& vocabulary) : v_(vocabulary) {}

  // Special tokens and what stands between them. `text` must outlive the Encoder.
  void Encode(std::string_view text, bool parse_special);
  void Add(TokenId id) { ids_.push_back(id); }
  std::vector<TokenId> TakeIds() { return std::move(ids_); }

 private:
  // A text without special tokens.
  void Text(std::string_view text, bool at_start);
  void SpmText(std::string_view text, bool at_start);
  void MergePiece(std::string_view piece);
  void BytePiece(std::string_view piece);
  void SpmPiece(std::string_view piece);
  void SpmSymbol(const Merger::Symbol& symbol);
  // A text over whose ends nothing merges.
  void Piece(std::string_view piece);

  const Vocabulary& v_;
  std::vector<TokenId> ids_;
  Merger merger_;
  std::deque<std::string> texts_;  // normalized texts, which remembered_ looks into
  struct Span {
    size_t begin, size;  // in ids_
  };
  std::unordered_map<std::string_view, Span> remembered_;
};

}  // namespace thimble

// A tokenizer's tables, made once from its TokenizerSpec. Inside of text/ only.
#pragma once

#include <array>
#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge.h"
#include "text/pre_tokenizer.h"
#include "text/special_tokens.h"
#include "text/token_index.h"
#include "text/tokenizer.h"

namespace thimble {

inline constexpr std::string_view kSpmSpace = "\xe2\x96\x81";  // U+2581, SentencePiece's space

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

// Not movable: its views point into itself.
struct Vocabulary {
  TokenizerSpec spec;
  TokenIndex by_text;
  std::vector<bool> ends_generation;
  SpecialTokens special, user_defined;  // to find with and without parse_special
  std::array<TokenId, 256> byte_ids;    // -1: none
  Splitter splitter;                    // byte-level BPE
  MergeTable merges;

  // SentencePiece by scores: the place of each token's score, the highest first; -1 for what no merge makes.
  std::vector<int32_t> ranks;
  size_t longest = 0;
  // SentencePiece: the bytes that stand before U+2581 inside some token. No merge reaches over a U+2581
  // behind another byte, so words can be merged one by one.
  std::bitset<256> before_space;

  explicit Vocabulary(TokenizerSpec from) : spec(std::move(from)), splitter(spec.pre) {}
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  Status Index(const std::string& source);

  TokenId Find(std::string_view token) const { return by_text.Find(token); }  // -1: not there
  std::string Bytes(TokenId id) const;                                        // as Decode writes the token

 private:
  Status CheckIds(const std::string& source) const;
  Status IndexMerges(const std::string& source);
  void IndexScores();
  void IndexByteIds();
  void IndexSpaces();
  void IndexSpecial();
};

}  // namespace thimble

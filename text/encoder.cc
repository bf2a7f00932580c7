#include "text/encoder.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace thimble {
namespace {

// How many words an Encoder remembers, and how long they may be. Text repeats its words.
constexpr size_t kMaxRemembered = 1 << 16, kMaxRememberedLength = 32;
// A piece beyond this is cut, so that 32-bit positions serve.
constexpr size_t kMaxPiece = size_t{1} << 30;

// Text that is not UTF-8 stays as it is: normalization is not defined for it.
std::string Nfc(std::string_view text) {
  utf8proc_uint8_t* normalized = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &normalized, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) return std::string(text);
  std::string out(reinterpret_cast<const char*>(normalized), static_cast<size_t>(size));
  std::free(normalized);
  return out;
}

bool IsSpaceAt(std::string_view text) {
  const Utf8Char c = DecodeUtf8(text);
  if (c.kind != Utf8Char::kValid) return false;
  if (c.code < 0x80) return c.code == ' ' || (c.code >= '\t' && c.code <= '\r');
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c.code));
  return c.code == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

std::string_view StripLeft(std::string_view text) {
  while (!text.empty() && IsSpaceAt(text)) {
    text.remove_prefix(static_cast<size_t>(DecodeUtf8(text).length));
  }
  return text;
}

std::string_view StripRight(std::string_view text) {
  while (!text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
    if (!IsSpaceAt(text.substr(at)) ||
        at + static_cast<size_t>(DecodeUtf8(text.substr(at)).length) != text.size()) {
      break;
    }
    text = text.substr(0, at);
  }
  return text;
}

}  // namespace

void Encoder::Encode(std::string_view text, bool parse_special) {
  const SpecialTokens& special = parse_special ? v_.special : v_.user_defined;
  const auto strips = [](const std::vector<TokenId>& ids, TokenId id) {
    return std::binary_search(ids.begin(), ids.end(), id);
  };
  size_t begin = 0;
  while (begin < text.size()) {
    const SpecialTokens::Match match = special.Find(text, begin);
    std::string_view before = text.substr(begin, match.begin - begin);
    if (match.id >= 0 && strips(v_.spec.lstrip, match.id)) before = StripRight(before);
    if (!before.empty()) Text(before, begin == 0);
    if (match.id < 0) break;
    Add(match.id);
    begin = match.begin + match.length;
    if (strips(v_.spec.rstrip, match.id)) begin = text.size() - StripLeft(text.substr(begin)).size();
  }
}

void Encoder::Text(std::string_view text, bool at_start) {
  if (v_.spec.normalize_nfc) text = texts_.emplace_back(Nfc(text));
  if (v_.spec.model == TokenizerModel::kSentencePieceBpe) {
    SpmText(text, at_start);
  } else {
    v_.splitter.Split(text, [this](std::string_view piece) { Piece(piece); });
  }
}

void Encoder::Piece(std::string_view piece) {
  for (; piece.size() > kMaxPiece; piece.remove_prefix(kMaxPiece)) MergePiece(piece.substr(0, kMaxPiece));
  if (piece.size() > kMaxRememberedLength) return MergePiece(piece);
  if (const auto known = remembered_.find(piece); known != remembered_.end()) {
    const Span span = known->second;
    for (size_t i = 0; i < span.size; ++i) ids_.push_back(ids_[span.begin + i]);
    return;
  }
  const size_t begin = ids_.size();
  MergePiece(piece);
  if (remembered_.size() < kMaxRemembered) remembered_.emplace(piece, Span{begin, ids_.size() - begin});
}

void Encoder::MergePiece(std::string_view piece) {
  v_.spec.model == TokenizerModel::kByteBpe ? BytePiece(piece) : SpmPiece(piece);
}

void Encoder::BytePiece(std::string_view piece) {
  if (v_.spec.ignore_merges) {
    const TokenId whole = v_.Find(BytesToAlphabet(piece));
    if (whole >= 0 && v_.spec.types[static_cast<size_t>(whole)] == TokenType::kNormal) return Add(whole);
  }
  merger_.Clear();
  for (size_t i = 0; i < piece.size(); ++i) {
    merger_.Add(piece.substr(i, 1), v_.byte_ids[static_cast<unsigned char>(piece[i])]);
  }
  merger_.Run([this](const auto& left, const auto& right) { return v_.merges(left.id, right.id); },
              [this](const Merger::Symbol& symbol) {
                if (symbol.id >= 0)
                  Add(symbol.id);  // bytes that the vocabulary lacks are left out, as elsewhere
              });
}

void Encoder::SpmText(std::string_view text, bool at_start) {
  const bool has_space = text.starts_with(' ') || text.starts_with(kSpmSpace);
  const SpacePrefix scheme = v_.spec.space_prefix;
  const bool prefix = scheme == SpacePrefix::kEveryText ||
                      (scheme == SpacePrefix::kEveryTextUnlessSpace && !has_space) ||
                      (scheme == SpacePrefix::kStartUnlessSpace && at_start && !has_space);
  std::string& spaced = texts_.emplace_back(prefix ? kSpmSpace : std::string_view());
  spaced += ReplaceAll(text, " ", kSpmSpace);
  const std::string_view all = spaced;
  size_t begin = 0;
  for (size_t at = all.find(kSpmSpace, 1); at != std::string_view::npos; at = all.find(kSpmSpace, at + 1)) {
    if (all.substr(0, at).ends_with(kSpmSpace) || v_.before_space[static_cast<unsigned char>(all[at - 1])])
      continue;
    Piece(all.substr(begin, at - begin));
    begin = at;
  }
  Piece(all.substr(begin));
}

void Encoder::SpmPiece(std::string_view piece) {
  merger_.Clear();
  for (size_t at = 0; at < piece.size();) {
    const Utf8Char c = DecodeUtf8(piece.substr(at));
    const std::string_view text =
        piece.substr(at, c.kind == Utf8Char::kValid ? static_cast<size_t>(c.length) : 1);
    merger_.Add(text, v_.Find(text));
    at += text.size();
  }
  const auto emit = [this](const Merger::Symbol& symbol) { SpmSymbol(symbol); };
  if (!v_.spec.merges.empty()) {
    merger_.Run([this](const auto& left, const auto& right) { return v_.merges(left.id, right.id); }, emit);
    return;
  }
  const auto by_score = [this](const Merger::Symbol& left, const Merger::Symbol& right) {
    const size_t size = left.text.size() + right.text.size();
    if (size > v_.longest) return Merge{};
    const TokenId id = v_.Find({left.text.data(), size});  // neighbours in the same text
    return id < 0 || v_.ranks[static_cast<size_t>(id)] < 0 ? Merge{}
                                                           : Merge{v_.ranks[static_cast<size_t>(id)], id};
  };
  merger_.Run(by_score, emit);
}

// What is not in the vocabulary goes byte by byte, or becomes the unknown token where bytes are missing too.
void Encoder::SpmSymbol(const Merger::Symbol& symbol) {
  if (symbol.id >= 0) return Add(symbol.id);
  const auto id_of = [this](char byte) { return v_.byte_ids[static_cast<unsigned char>(byte)]; };
  if (std::all_of(symbol.text.begin(), symbol.text.end(), [&](char byte) { return id_of(byte) >= 0; })) {
    for (char byte : symbol.text) Add(id_of(byte));
  } else if (v_.spec.unk && (ids_.empty() || ids_.back() != *v_.spec.unk)) {
    Add(*v_.spec.unk);
  }
}

}  // namespace thimble

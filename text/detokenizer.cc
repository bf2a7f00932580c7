#include "text/tokenizer.h"
#include "text/utf8.h"

namespace thimble {

std::string StreamingDetokenizer::Push(TokenId id) {
  std::string bytes = tokenizer_->TokenBytes(id, with_special_);
  if (first_ && !bytes.empty()) {
    if (bytes[0] == ' ' && tokenizer_->spec().space_prefix != SpacePrefix::kNone) bytes.erase(0, 1);
    first_ = false;
  }
  pending_ += bytes;
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = ValidUtf8Length(rest);
    out += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Char c = DecodeUtf8(rest);
    if (c.kind == Utf8Char::kIncomplete) break;
    out += kReplacementCharacter;
    rest.remove_prefix(static_cast<size_t>(c.length));
  }
  pending_ = std::string(rest);
  return out;
}

std::string StreamingDetokenizer::Flush() {
  first_ = true;
  return std::exchange(pending_, {}).empty() ? std::string() : std::string(kReplacementCharacter);
}

}  // namespace thimble

// UTF-8 one character at a time, over bytes that may be anything.
#pragma once

#include <string>
#include <string_view>

namespace thimble {

struct Utf8Char {
  enum Kind { kValid, kInvalid, kIncomplete };  // kIncomplete: more bytes could still make it valid
  Kind kind;
  // kValid: the character's bytes. Otherwise the longest start of a character there (at least 1): what one
  // U+FFFD stands for (Unicode, section 3.9, "maximal subparts").
  int length;
  char32_t code;  // kValid only
};

// The character at the start of `text`, which is not empty.
Utf8Char DecodeUtf8(std::string_view text);
// The length of the longest start of `text` that is valid UTF-8.
size_t ValidUtf8Length(std::string_view text);
void AppendUtf8(std::string& out, char32_t code);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

}  // namespace thimble

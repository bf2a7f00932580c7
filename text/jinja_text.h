// Python's view of text on UTF-8 strings: code points, character classes, case mapping, number and string
// repr. Every string in the interpreter is valid UTF-8; indices and lengths count code points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thimble::jinja {

// Integers of templates. Wider than 64 bits so that JSON's unsigned 64-bit numbers survive; overflow is an
// error.
__extension__ using Int = __int128;

// Bytes that are not UTF-8 become U+FFFD.
std::string ToValidUtf8(std::string_view text);
size_t CodePointCount(std::string_view text);
// The code point at byte *pos, and moves *pos behind it.
char32_t NextCodePoint(std::string_view text, size_t* pos);
void AppendUtf8(std::string* out, char32_t code_point);
// The byte offset of the `index`-th code point, or text.size().
size_t ByteOffset(std::string_view text, size_t index);
std::vector<char32_t> CodePoints(std::string_view text);

bool IsSpace(char32_t c);      // str.isspace
bool IsPrintable(char32_t c);  // str.isprintable
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsAlnum(char32_t c);  // also regex \w, but for the underscore
bool IsIdentifierStart(char32_t c);
bool IsIdentifierPart(char32_t c);

// str.islower / str.isupper.
bool IsLowerText(std::string_view text);
bool IsUpperText(std::string_view text);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);  // first character in title case, the rest lowered
std::string TitleCase(std::string_view text);   // str.title
std::string SwapCase(std::string_view text);

// str.strip: `chars` is a set of characters; nullopt means white space.
std::string_view Strip(std::string_view text, std::optional<std::string_view> chars, bool left, bool right);
// str.splitlines.
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);
// Jinja2's default HTML escaping.
std::string EscapeHtml(std::string_view text);

std::string IntText(Int value);
// repr(float): the shortest digits that read back as the same number.
std::string FloatRepr(double value);
// repr(str).
std::string QuotedRepr(std::string_view text);
// int(text, base): nullopt where Python raises ValueError. Throws kLimit beyond 127 bits.
std::optional<Int> ParseInt(std::string_view text, int base);
// float(text).
std::optional<double> ParseFloat(std::string_view text);

}  // namespace thimble::jinja

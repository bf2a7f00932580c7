#include "text/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "text/jinja_error.h"

namespace thimble::jinja {
namespace {

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// The full upper case of a character that has more than one (SpecialCasing.txt), else empty. utf8proc knows
// only single ones, but its case folding expands just these characters, to the lower case of the same text.
std::u32string UpperExpansion(char32_t c) {
  if (c < 0x80 || Category(c) == UTF8PROC_CATEGORY_LU) return {};
  std::array<utf8proc_int32_t, 4> folded;
  int boundary = 0;
  const auto size = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded.data(), folded.size(),
                                            UTF8PROC_CASEFOLD, &boundary);
  if (size < 2) return {};
  std::u32string upper;
  for (size_t i = 0; i < static_cast<size_t>(size); ++i) {
    upper += static_cast<char32_t>(utf8proc_toupper(folded[i]));
  }
  return upper;
}

char32_t SimpleLower(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
char32_t SimpleUpper(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
char32_t SimpleTitle(char32_t c) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

void AppendUpper(std::string* out, char32_t c) {
  if (const auto expansion = UpperExpansion(c); !expansion.empty()) {
    for (char32_t part : expansion) AppendUtf8(out, part);
  } else {
    AppendUtf8(out, SimpleUpper(c));
  }
}

void AppendTitle(std::string* out, char32_t c) {
  constexpr char32_t kSharpS = 0xdf;  // the only one with a single title case that Python does not use
  const auto expansion = UpperExpansion(c);
  const bool has_title = SimpleTitle(c) != c || Category(c) == UTF8PROC_CATEGORY_LT;
  if (expansion.empty() || (has_title && c != kSharpS)) return AppendUtf8(out, SimpleTitle(c));
  AppendUtf8(out, expansion[0]);
  for (char32_t part : std::u32string_view(expansion).substr(1)) AppendUtf8(out, SimpleLower(part));
}

bool IsCased(char32_t c) {
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

bool IsCaseIgnorable(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == U'\'' || c == U'.' || c == U':' || c == 0xb7 || c == 0x2018 || c == 0x2019 || c == 0x2024;
  }
}

constexpr char32_t kCapitalSigma = 0x3a3;

// A capital sigma at the end of a word lowers to the final form.
bool IsFinalSigma(const std::vector<char32_t>& text, size_t index) {
  size_t before = index;
  while (before > 0 && IsCaseIgnorable(text[before - 1])) --before;
  if (before == 0 || !IsCased(text[before - 1])) return false;
  size_t after = index + 1;
  while (after < text.size() && IsCaseIgnorable(text[after])) ++after;
  return after == text.size() || !IsCased(text[after]);
}

void AppendLower(std::string* out, const std::vector<char32_t>& text, size_t index) {
  const char32_t c = text[index];
  if (c == kCapitalSigma) {
    AppendUtf8(out, IsFinalSigma(text, index) ? 0x3c2 : 0x3c3);
  } else if (c == 0x130) {  // dotted capital I: the only lower case of two characters
    *out += "i\u0307";
  } else {
    AppendUtf8(out, SimpleLower(c));
  }
}

}  // namespace

std::string ToValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t pos = 0;
  while (pos < text.size()) {
    utf8proc_int32_t code_point = -1;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + pos);
    const auto size = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - pos), &code_point);
    if (size <= 0) {
      out += "\ufffd";
      ++pos;
    } else {
      out.append(text.substr(pos, static_cast<size_t>(size)));
      pos += static_cast<size_t>(size);
    }
  }
  return out;
}

size_t CodePointCount(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

char32_t NextCodePoint(std::string_view text, size_t* pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : 0x80); };
  const unsigned char lead = byte(*pos);
  if (lead < 0x80) {
    ++*pos;
    return lead;
  }
  const size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  char32_t code_point = lead & (0x7f >> size);
  for (size_t i = 1; i < size; ++i) code_point = (code_point << 6) | (byte(*pos + i) & 0x3f);
  *pos = std::min(*pos + size, text.size());
  return code_point;
}

void AppendUtf8(std::string* out, char32_t c) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes.data());
  out->append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(size));
}

size_t ByteOffset(std::string_view text, size_t index) {
  size_t pos = 0;
  while (pos < text.size() && index > 0) {
    ++pos;
    while (pos < text.size() && (text[pos] & 0xc0) == 0x80) ++pos;
    --index;
  }
  return pos;
}

std::vector<char32_t> CodePoints(std::string_view text) {
  std::vector<char32_t> out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) out.push_back(NextCodePoint(text, &pos));
  return out;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsPrintable(char32_t c) {
  if (c < 0x7f) return c >= 0x20;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool IsAlpha(char32_t c) {
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDecimal(char32_t c) {
  return Category(c) == UTF8PROC_CATEGORY_ND;
}

bool IsDigit(char32_t c) {
  return IsDecimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}

bool IsAlnum(char32_t c) {
  const auto category = Category(c);
  return IsAlpha(c) || (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

bool IsIdentifierStart(char32_t c) {
  return c == '_' || IsAlpha(c) || Category(c) == UTF8PROC_CATEGORY_NL;
}

bool IsIdentifierPart(char32_t c) {
  const auto category = Category(c);
  return IsIdentifierStart(c) || category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_PC || c == 0xb7;
}

namespace {
// True if there is a cased character and none of the wrong kind.
bool HasOnlyCase(std::string_view text, utf8proc_category_t wanted, utf8proc_category_t refused) {
  bool found = false;
  for (size_t pos = 0; pos < text.size();) {
    const auto category = Category(NextCodePoint(text, &pos));
    if (category == refused || category == UTF8PROC_CATEGORY_LT) return false;
    found = found || category == wanted;
  }
  return found;
}
}  // namespace

bool IsLowerText(std::string_view text) {
  return HasOnlyCase(text, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LU);
}
bool IsUpperText(std::string_view text) {
  return HasOnlyCase(text, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL);
}

std::string Upper(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) AppendUpper(&out, NextCodePoint(text, &pos));
  return out;
}

std::string Lower(std::string_view text) {
  std::string out;
  const auto points = CodePoints(text);
  for (size_t i = 0; i < points.size(); ++i) AppendLower(&out, points, i);
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out;
  const auto points = CodePoints(text);
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      AppendTitle(&out, points[i]);
    } else {
      AppendLower(&out, points, i);
    }
  }
  return out;
}

std::string TitleCase(std::string_view text) {
  std::string out;
  const auto points = CodePoints(text);
  bool in_word = false;
  for (size_t i = 0; i < points.size(); ++i) {
    if (in_word) {
      AppendLower(&out, points, i);
    } else {
      AppendTitle(&out, points[i]);
    }
    in_word = IsCased(points[i]);
  }
  return out;
}

std::string SwapCase(std::string_view text) {
  std::string out;
  const auto points = CodePoints(text);
  for (size_t i = 0; i < points.size(); ++i) {
    const auto category = Category(points[i]);
    if (category == UTF8PROC_CATEGORY_LU) {
      AppendLower(&out, points, i);
    } else if (category == UTF8PROC_CATEGORY_LL) {
      AppendUpper(&out, points[i]);
    } else {
      AppendUtf8(&out, points[i]);
    }
  }
  return out;
}

std::string_view Strip(std::string_view text, std::optional<std::string_view> chars, bool left, bool right) {
  const std::vector<char32_t> set = chars ? CodePoints(*chars) : std::vector<char32_t>();
  const auto strips = [&](char32_t c) {
    return chars ? std::find(set.begin(), set.end(), c) != set.end() : IsSpace(c);
  };
  while (left && !text.empty()) {
    size_t pos = 0;
    if (!strips(NextCodePoint(text, &pos))) break;
    text.remove_prefix(pos);
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (text[start] & 0xc0) == 0x80) --start;
    size_t pos = start;
    if (!strips(NextCodePoint(text, &pos))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0, pos = 0;
  while (pos < text.size()) {
    const size_t end = pos;
    const char32_t c = NextCodePoint(text, &pos);
    const bool breaks =
        (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && pos < text.size() && text[pos] == '\n') ++pos;
    lines.push_back(text.substr(start, (keep_ends ? pos : end) - start));
    start = pos;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string IntText(Int value) {
  return fmt::format("{}", value);
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  std::array<char, 64> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view scientific(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  const size_t e = scientific.find('e');
  const int exponent = std::atoi(std::string(scientific.substr(e + 1)).c_str());
  std::string digits;
  for (char c : scientific.substr(0, e)) {
    if (std::isdigit(static_cast<unsigned char>(c))) digits += c;
  }
  std::string out = value < 0 ? "-" : "";
  const int n_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n_digits > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (n_digits <= exponent + 1) {
    return out + digits + std::string(static_cast<size_t>(exponent + 1 - n_digits), '0') + ".0";
  }
  return out + digits.insert(static_cast<size_t>(exponent + 1), ".");
}

std::string QuotedRepr(std::string_view text) {
  const bool double_quotes = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextCodePoint(text, &pos);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      AppendUtf8(&out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  return out + quote;
}

std::optional<Int> ParseInt(std::string_view text, int base) {
  text = Strip(text, std::nullopt, true, true);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  bool underscore_allowed = false;
  if (text.size() > 1 && text[0] == '0') {
    const char letter = static_cast<char>(std::tolower(static_cast<unsigned char>(text[1])));
    const int prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
      base = prefix_base;
      text.remove_prefix(2);
      underscore_allowed = true;
    }
  }
  if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
    base = 10;
  }
  if (text.empty()) return std::nullopt;
  Int value = 0;
  for (char c : text) {
    if (c == '_') {
      if (!underscore_allowed) return std::nullopt;
      underscore_allowed = false;
      continue;
    }
    const int lower = std::tolower(static_cast<unsigned char>(c));
    const int digit = std::isdigit(lower)            ? lower - '0'
                      : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10
                                                     : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      Fail(ErrorKind::kLimit, "integers beyond 127 bits are not supported");
    }
    underscore_allowed = true;
  }
  if (text.back() == '_') return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text, std::nullopt, true, true);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t k) {
      return k < text.size() && std::isdigit(static_cast<unsigned char>(text[k]));
    };
    if (text[i] != '_') {
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(text[i])));
    } else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) {
      return std::nullopt;
    }
  }
  const std::string_view body =
      std::string_view(plain).substr(!plain.empty() && (plain[0] == '-' || plain[0] == '+'));
  const bool named = body == "inf" || body == "infinity" || body == "nan";
  if (!named && (body.empty() || body.find_first_not_of("0123456789.e+-") != body.npos)) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(plain.c_str(), &end);
  if (end != plain.c_str() + plain.size()) return std::nullopt;
  return value;
}

}  // namespace thimble::jinja

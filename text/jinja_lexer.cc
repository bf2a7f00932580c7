#include "text/jinja_lexer.h"

#include <algorithm>
#include <cctype>

namespace thimble::jinja {
namespace {

bool IsDigitByte(char c) {
  return c >= '0' && c <= '9';
}

// All line ends become \n, and one at the very end is dropped.
std::string NormalizeLines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeLines(source)), text_(source_) {}

  std::vector<LexedToken> Run() {
    while (pos_ < text_.size()) LexRoot();
    Emit(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  // ---- text between tags ----
  void LexRoot() {
    size_t tag = pos_;
    while (true) {
      tag = text_.find('{', tag);
      if (tag == text_.npos || tag + 1 >= text_.size()) {
        EmitData(text_.substr(pos_));
        pos_ = text_.size();
        return;
      }
      const char kind = text_[tag + 1];
      if (kind == '%' || kind == '{' || kind == '#') break;
      ++tag;
    }
    const char kind = text_[tag + 1];
    size_t after = tag + 2;
    const char sign = SignAt(after);
    if (sign != 0) ++after;
    EmitData(StripBefore(text_.substr(pos_, tag - pos_), sign, kind != '{'));
    AdvanceTo(after);
    if (kind == '#') {
      LexComment();
    } else if (kind == '{') {
      Emit(Token::kVariableBegin, "");
      LexTag(false);
    } else if (const size_t raw_body = MatchTagName("raw", false); raw_body != 0) {
      AdvanceTo(raw_body);
      LexRaw();
    } else {
      Emit(Token::kBlockBegin, "");
      LexTag(true);
    }
  }

  char SignAt(size_t i) const {
    return i < text_.size() && (text_[i] == '-' || text_[i] == '+') ? text_[i] : '\0';
  }

  // What a tag leaves of the text before it.
  std::string_view StripBefore(std::string_view data, char sign, bool lstrip) const {
    if (sign == '-') return Strip(data, std::nullopt, false, true);
    if (sign == '+' || !lstrip) return data;
    const size_t newline = data.rfind('\n');
    const size_t line_start = newline == data.npos ? 0 : newline + 1;
    if (newline == data.npos && !line_starting_) return data;
    return Strip(data.substr(line_start), std::nullopt, true, false).empty() ? data.substr(0, line_start)
                                                                             : data;
  }

  size_t SkipSpace(size_t i) const {
    while (i < text_.size()) {
      size_t next = i;
      if (!IsSpace(NextCodePoint(text_, &next))) break;
      i = next;
    }
    return i;
  }

  // The end of a closing delimiter at `i` ("%}", "#}" or "}}"), with its white space control; 0 if there is
  // none.
  size_t MatchClose(size_t i, std::string_view close, bool trim_newline) const {
    const char sign = SignAt(i);
    if (sign == '+' && !trim_newline) return 0;  // "+}}" does not exist
    const size_t at = sign != 0 ? i + 1 : i;
    if (text_.substr(at, close.size()) != close) return 0;
    const size_t end = at + close.size();
    if (sign == '-') return SkipSpace(end);
    if (sign == 0 && trim_newline && end < text_.size() && text_[end] == '\n') return end + 1;
    return end;
  }

  // At pos_, behind "{%" and its sign: the end of `name` and "%}", or 0.
  size_t MatchTagName(std::string_view name, bool trim_newline) const {
    size_t i = SkipSpace(pos_);
    if (text_.substr(i, name.size()) != name) return 0;
    i = SkipSpace(i + name.size());
    if (!trim_newline) {  // {% raw %}: keeps the newline behind it, and knows no "+%}"
      if (SignAt(i) == '+') return 0;
      const bool minus = SignAt(i) == '-';
      if (text_.substr(i + minus, 2) != "%}") return 0;
      return minus ? SkipSpace(i + 3) : i + 2;
    }
    return MatchClose(i, "%}", true);
  }

  void LexComment() {
    if (pos_ == text_.size()) return;  // Jinja2 only looks for the end if something follows
    for (size_t i = pos_; i < text_.size(); ++i) {
      if (const size_t end = MatchClose(i, "#}", true); end != 0) return AdvanceTo(end);
    }
    FailAt(line_, "missing end of comment tag");
  }

  void LexRaw() {
    const int first_line = line_;
    const size_t begin = pos_;
    if (begin == text_.size()) return;
    for (size_t tag = text_.find("{%", begin); tag != text_.npos; tag = text_.find("{%", tag + 1)) {
      const char sign = SignAt(tag + 2);
      const size_t saved = pos_;
      pos_ = tag + (sign != 0 ? 3 : 2);
      const size_t end = MatchTagName("endraw", true);
      pos_ = saved;
      if (end == 0) continue;
      EmitData(StripBefore(text_.substr(begin, tag - begin), sign, true));
      return AdvanceTo(end);
    }
    FailAt(first_line, "missing end of raw directive");
  }

  // ---- inside {{ }} and {% %} ----
  void LexTag(bool block) {
    const std::string_view close = block ? "%}" : "}}";
    std::string open;  // closing brackets that are due
    while (pos_ < text_.size()) {
      if (open.empty()) {
        if (const size_t end = MatchClose(pos_, close, block); end != 0) {
          Emit(block ? Token::kBlockEnd : Token::kVariableEnd, "");
          return AdvanceTo(end);
        }
      }
      const char c = text_[pos_];
      if (const size_t space = SkipSpace(pos_); space != pos_) {
        AdvanceTo(space);
      } else if (IsDigitByte(c)) {
        LexNumber();
      } else if (c == '"' || c == '\'') {
        LexString(c);
      } else if (const size_t end = NameEnd(); end != pos_) {
        Emit(Token::kName, std::string(text_.substr(pos_, end - pos_)));
        AdvanceTo(end);
      } else {
        LexOperator(&open);
      }
    }
  }

  size_t NameEnd() const {
    size_t i = pos_;
    while (i < text_.size()) {
      size_t next = i;
      const char32_t c = NextCodePoint(text_, &next);
      if (i == pos_ ? !IsIdentifierStart(c) : !IsIdentifierPart(c)) break;
      i = next;
    }
    return i;
  }

  // Digits with single underscores between them; the end of the run, or `i` if there is none.
  size_t DigitsEnd(size_t i) const {
    size_t end = i;
    while (i < text_.size() && IsDigitByte(text_[i])) {
      end = ++i;
      if (i < text_.size() && text_[i] == '_') ++i;
    }
    return end;
  }

  void LexNumber() {
    const size_t whole = DigitsEnd(pos_);
    size_t end = whole;
    const bool after_dot = pos_ > 0 && text_[pos_ - 1] == '.';  // a.0.1 is two subscripts
    if (!after_dot) {
      if (end < text_.size() && text_[end] == '.') {
        const size_t fraction = DigitsEnd(end + 1);
        if (fraction != end + 1) end = fraction;
      }
      if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
        const size_t digits = end + 1 + (SignAt(end + 1) != 0 ? 1 : 0);
        const size_t exponent = DigitsEnd(digits);
        if (exponent != digits) end = exponent;
      }
    }
    LexedToken token{end == whole ? Token::kInteger : Token::kFloat, line_, "", Value()};
    if (end == whole) {
      end = IntegerEnd(whole);
      token.number = Value::Integer(ParseInt(text_.substr(pos_, end - pos_), 0).value_or(0));
    } else {
      token.number = Value::Float(ParseFloat(text_.substr(pos_, end - pos_)).value_or(0));
    }
    tokens_.push_back(std::move(token));
    AdvanceTo(end);
  }

  // The end of an integer literal: prefixed, decimal without leading zeros, or zeros.
  size_t IntegerEnd(size_t decimal_end) const {
    if (text_[pos_] != '0') return decimal_end;
    if (pos_ + 1 < text_.size()) {
      const char letter = static_cast<char>(std::tolower(static_cast<unsigned char>(text_[pos_ + 1])));
      const std::string_view digits = letter == 'x'   ? "0123456789abcdefABCDEF"
                                      : letter == 'o' ? "01234567"
                                      : letter == 'b' ? "01"
                                                      : "";
      size_t end = pos_ + 2, valid_end = 0;
      while (end < text_.size()) {
        if (text_[end] == '_') ++end;
        if (end >= text_.size() || digits.find(text_[end]) == digits.npos) break;
        valid_end = ++end;
      }
      if (valid_end != 0) return valid_end;
    }
    size_t end = pos_ + 1;
    while (end < text_.size() &&
           (text_[end] == '0' || (text_[end] == '_' && text_.substr(end + 1, 1) == "0")))
      ++end;
    return end;
  }

  void LexString(char quote) {
    size_t end = pos_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) FailAt(line_, "a string is not closed");
    Emit(Token::kString, Unescape(text_.substr(pos_ + 1, end - pos_ - 1)));
    AdvanceTo(end + 1);
  }

  // Python: text.encode("ascii", "backslashreplace").decode("unicode-escape").
  std::string Unescape(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size();) {
      if (text[i] != '\\') {
        out += text[i++];
        continue;
      }
      ++i;  // the lexer never ends a string on a lone backslash
      size_t next = i;
      const char32_t c = NextCodePoint(text, &next);
      if (c >= 0x80) {  // the backslash escapes the one that "backslashreplace" puts there
        out += c < 0x100     ? fmt::format("\\x{:02x}", static_cast<uint32_t>(c))
               : c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(c))
                             : fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
        i = next;
        continue;
      }
      i = Escape(text, i, &out);
    }
    return out;
  }

  // Decodes the escape whose letter stands at `i`; returns the index behind it.
  size_t Escape(std::string_view text, size_t i, std::string* out) const {
    constexpr std::string_view kLetters = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
    const char c = text[i];
    if (c == '\n') return i + 1;
    if (const size_t at = kLetters.find(c); at != kLetters.npos) {
      *out += kMeanings[at];
      return i + 1;
    }
    if (c >= '0' && c <= '7') {
      char32_t code = 0;
      size_t end = i;
      while (end < text.size() && end < i + 3 && text[end] >= '0' && text[end] <= '7') {
        code = code * 8 + static_cast<char32_t>(text[end++] - '0');
      }
      AppendUtf8(out, code);
      return end;
    }
    const size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (n_digits == 0) {
      if (c == 'N') FailAt(line_, "\\N{{...}} escapes are not supported");
      *out += '\\';
      *out += c;
      return i + 1;
    }
    const std::string_view digits = text.substr(i + 1, n_digits);
    const bool complete = digits.size() == n_digits && std::all_of(digits.begin(), digits.end(), [](char d) {
                            return std::isxdigit(static_cast<unsigned char>(d)) != 0;
                          });
    if (!complete) FailAt(line_, "truncated \\{} escape in a string", c);
    const auto code = static_cast<char32_t>(*ParseInt(digits, 16));
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      FailAt(line_, "a \\{} escape is not a Unicode character", c);
    }
    AppendUtf8(out, code);
    return i + 1 + n_digits;
  }

  void LexOperator(std::string* open) {
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (text_.substr(pos_, 2) != two) continue;
      Emit(Token::kOperator, std::string(two));
      return AdvanceTo(pos_ + 2);
    }
    const char c = text_[pos_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      FailAt(line_, "unexpected character '{}'",
             c >= 0x20 && c < 0x7f ? std::string(1, c) : "outside of ASCII");
    }
    if (c == '{') open->push_back('}');
    if (c == '(') open->push_back(')');
    if (c == '[') open->push_back(']');
    if (c == '}' || c == ')' || c == ']') {
      if (open->empty()) FailAt(line_, "unexpected '{}'", c);
      if (open->back() != c) FailAt(line_, "unexpected '{}', expected '{}'", c, open->back());
      open->pop_back();
    }
    Emit(Token::kOperator, std::string(1, c));
    AdvanceTo(pos_ + 1);
  }

  void AdvanceTo(size_t end) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(pos_),
                                         text_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    line_starting_ = end > 0 && text_[end - 1] == '\n';
    pos_ = end;
  }

  void Emit(Token type, std::string text) { tokens_.push_back({type, line_, std::move(text), Value()}); }
  void EmitData(std::string_view data) {
    if (!data.empty()) Emit(Token::kData, std::string(data));
  }

  const std::string source_;
  const std::string_view text_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last thing read ended a line
  std::vector<LexedToken> tokens_;
};

}  // namespace

std::vector<LexedToken> Tokenize(std::string_view source) {
  return Lexer(source).Run();
}

}  // namespace thimble::jinja

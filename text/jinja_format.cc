// `"..." % args`, and str.format with Python's format specifications.
#include <array>
#include <cmath>

#include "text/jinja_ops.h"

namespace thimble::jinja {
namespace {

// One conversion, of either mini-language.
struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '=' or none given
  char sign = '-';
  bool alternate = false, zero = false;
  char grouping = 0;
  int width = 0;
  int precision = -1;
  char type = 0;
};

constexpr int kMaxWidth = 100'000;
constexpr int kMaxPrecision = 1000;

std::string WithSign(bool negative, char sign) {
  if (negative) return "-";
  return sign == '+' ? "+" : sign == ' ' ? " " : "";
}

// Pads `prefix + body` to the width; '=' pads between the two.
std::string Pad(const Spec& spec, const std::string& prefix, const std::string& body, char fallback) {
  const size_t length = CodePointCount(prefix) + CodePointCount(body);
  const size_t width = static_cast<size_t>(spec.width);
  if (length >= width) return prefix + body;
  const size_t missing = width - length;
  const auto fill = [&](size_t n) {
    std::string out;
    for (size_t i = 0; i < n; ++i) out += spec.fill;
    return out;
  };
  switch (spec.align != 0 ? spec.align : fallback) {
    case '<':
      return prefix + body + fill(missing);
    case '^':
      return fill(missing / 2) + prefix + body + fill(missing - missing / 2);
    case '=':
      return prefix + fill(missing) + body;
    default:
      return fill(missing) + prefix + body;
  }
}

std::string Group(std::string digits, char separator, size_t every) {
  for (size_t i = digits.size(); i > every; i -= every) digits.insert(i - every, 1, separator);
  return digits;
}

std::string Digits(Int value, unsigned base, bool upper) {
  using Unsigned = unsigned __int128;
  Unsigned rest = value < 0 ? -static_cast<Unsigned>(value) : static_cast<Unsigned>(value);
  const std::string_view digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out.insert(out.begin(), digits[static_cast<size_t>(rest % base)]);
    rest /= base;
  } while (rest != 0);
  return out;
}

std::string FormatInt(const Spec& spec, Int value) {
  unsigned base = 10;
  std::string prefix;
  switch (spec.type) {
    case 'x':
    case 'X':
      base = 16;
      prefix = spec.type == 'x' ? "0x" : "0X";
      break;
    case 'o':
      base = 8;
      prefix = "0o";
      break;
    case 'b':
      base = 2;
      prefix = "0b";
      break;
    default:
      break;
  }
  std::string digits = Digits(value, base, spec.type == 'X');
  if (spec.grouping != 0) digits = Group(digits, spec.grouping, base == 10 ? 3 : 4);
  const std::string sign = WithSign(value < 0, spec.sign);
  return Pad(spec, sign + (spec.alternate ? prefix : ""), digits, '>');
}

// |value| in the style of C's printf, which Python follows for e, f and g.
std::string PlainFloat(double value, char type, int precision, bool alternate) {
  if (!std::isfinite(value)) {
    const bool upper = type == 'F' || type == 'E' || type == 'G';
    return std::isnan(value) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf");
  }
  const std::string format = fmt::format("%{}.*{}", alternate ? "#" : "", type);
  std::array<char, 1400> buffer;  // 309 digits before the point and kMaxPrecision after it
  const int size = std::snprintf(buffer.data(), buffer.size(), format.c_str(), precision, value);
  return std::string(buffer.data(), static_cast<size_t>(size));
}

std::string FormatFloat(const Spec& spec, double value) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  const double magnitude = std::abs(value);
  std::string body;
  if (spec.type == 0 && spec.precision < 0) {
    body = FloatRepr(magnitude);
  } else if (spec.type == 0) {
    body = PlainFloat(magnitude, 'g', spec.precision == 0 ? 1 : spec.precision, spec.alternate);
    if (std::isfinite(value) && body.find_first_of(".e") == std::string::npos) body += ".0";
  } else if (spec.type == '%') {
    body = PlainFloat(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.alternate) + "%";
  } else {
    const char type = spec.type == 'n' ? 'g' : spec.type;
    body = PlainFloat(magnitude, type, spec.precision < 0 ? 6 : spec.precision, spec.alternate);
  }
  if (spec.grouping != 0) {
    const size_t whole = std::min(body.find_first_not_of("0123456789"), body.size());
    body = Group(body.substr(0, whole), spec.grouping, 3) + body.substr(whole);
  }
  return Pad(spec, WithSign(negative, spec.sign), body, '>');
}

std::string FormatText(const Spec& spec, const std::string& text) {
  const std::string shown =
      spec.precision < 0 ? text : text.substr(0, ByteOffset(text, static_cast<size_t>(spec.precision)));
  return Pad(spec, "", shown, '<');
}

int ReadNumber(std::string_view text, size_t* pos, int limit) {
  int number = 0;
  while (*pos < text.size() && text[*pos] >= '0' && text[*pos] <= '9') {
    number = number * 10 + (text[(*pos)++] - '0');
    if (number > limit) Fail(ErrorKind::kLimit, "a width or precision in a format is larger than {}", limit);
  }
  return number;
}

// ---- str.format
// --------------------------------------------------------------------------------------------

Spec ParseSpec(std::string_view text) {
  Spec spec;
  size_t pos = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  size_t after_first = 0;
  if (!text.empty()) NextCodePoint(text, &after_first);
  if (after_first > 0 && after_first < text.size() && is_align(text[after_first])) {
    spec.fill = text.substr(0, after_first);
    spec.align = text[after_first];
    pos = after_first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[pos++];
  }
  const auto accept = [&](char c) { return pos < text.size() && text[pos] == c ? (++pos, true) : false; };
  if (pos < text.size() && (text[pos] == '+' || text[pos] == '-' || text[pos] == ' '))
    spec.sign = text[pos++];
  spec.alternate = accept('#');
  if (accept('0') && spec.align == 0) {
    spec.fill = "0";
    spec.align = '=';
    spec.zero = true;
  }
  spec.width = ReadNumber(text, &pos, kMaxWidth);
  if (accept(',')) spec.grouping = ',';
  if (accept('_')) spec.grouping = '_';
  if (accept('.')) {
    if (pos == text.size() || text[pos] < '0' || text[pos] > '9')
      Fail(ErrorKind::kValue, "format specifier missing precision");
    spec.precision = ReadNumber(text, &pos, kMaxPrecision);
  }
  if (pos < text.size()) spec.type = text[pos++];
  if (pos != text.size()) Fail(ErrorKind::kValue, "invalid format specifier '{}'", text);
  return spec;
}

[[noreturn]] void FailCode(char code, const Value& value) {
  Fail(ErrorKind::kValue, "unknown format code '{}' for object of type '{}'", code, value.TypeName());
}

std::string FormatWithSpec(const Value& value, const std::string& text) {
  if (text.empty()) return value.Str();
  const Spec spec = ParseSpec(text);
  const auto one_of = [&](std::string_view codes) {
    return spec.type == 0 || codes.find(spec.type) != codes.npos;
  };
  if (value.is_string()) {
    if (!one_of("s")) FailCode(spec.type, value);
    if (spec.align == '=' && !spec.zero)
      Fail(ErrorKind::kValue, "'=' alignment not allowed in string format specifier");
    Spec plain = spec;
    if (spec.zero) plain.align = '<';
    return FormatText(plain, value.text());
  }
  if (value.is_integral() && one_of("bcdoxXn")) {
    if (value.is(Kind::kBool) && spec.type == 0) return FormatText(spec, value.Str());
    if (spec.type == 'c') FailCode('c', value);
    if (spec.precision >= 0) Fail(ErrorKind::kValue, "precision not allowed in integer format specifier");
    return FormatInt(spec, value.integer());
  }
  if (value.is_number()) {
    if (!one_of("eEfFgGn%")) FailCode(spec.type, value);
    return FormatFloat(spec, value.number());
  }
  Fail(ErrorKind::kType, "unsupported format string passed to {}.__format__", value.TypeName());
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const CallArgs& args) : runtime_(runtime), args_(args) {}

  std::string Format(std::string_view format, int levels) {
    if (levels == 0) Fail(ErrorKind::kValue, "max string recursion exceeded");
    std::string out;
    for (size_t pos = 0; pos < format.size();) {
      const char c = format[pos++];
      if (c != '{' && c != '}') {
        out += c;
      } else if (pos < format.size() && format[pos] == c) {
        out += c;
        ++pos;
      } else if (c == '}') {
        Fail(ErrorKind::kValue, "single '}}' encountered in format string");
      } else {
        out += Field(FieldText(format, &pos), levels);
      }
      if (out.size() > kMaxTextBytes)
        Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
    }
    return out;
  }

 private:
  // Up to the matching brace; braces inside nest.
  static std::string_view FieldText(std::string_view format, size_t* pos) {
    const size_t begin = *pos;
    for (int open = 1; *pos < format.size();) {
      const char c = format[(*pos)++];
      open += c == '{' ? 1 : c == '}' ? -1 : 0;
      if (open == 0) return format.substr(begin, *pos - 1 - begin);
    }
    Fail(ErrorKind::kValue, "expected '}}' before end of string");
  }

  std::string Field(std::string_view field, int levels) {
    size_t end = 0;
    for (bool in_brackets = false; end < field.size(); ++end) {
      if (field[end] == '[') in_brackets = true;
      if (field[end] == ']') in_brackets = false;
      if (!in_brackets && (field[end] == ':' || field[end] == '!')) break;
    }
    Value value = Lookup(field.substr(0, end));
    if (end < field.size() && field[end] == '!') {
      const char conversion = end + 1 < field.size() ? field[end + 1] : 0;
      end += 2;
      if (end < field.size() && field[end] != ':')
        Fail(ErrorKind::kValue, "expected ':' after conversion specifier");
      if (conversion != 'r' && conversion != 's') Fail(ErrorKind::kValue, "unknown conversion specifier");
      value = runtime_.Text(conversion == 'r' ? value.Repr() : value.Str());
    }
    const std::string spec = end < field.size() ? Format(field.substr(end + 1), levels - 1) : "";
    return FormatWithSpec(value, spec);
  }

  Value Lookup(std::string_view name) {
    const size_t head = std::min(name.find_first_of(".["), name.size());
    Value value = First(name.substr(0, head));
    for (size_t pos = head; pos < name.size();) {
      const bool attribute = name[pos] == '.';
      if (!attribute && name[pos] != '[')
        Fail(ErrorKind::kValue, "only '.' or '[' may follow ']' in a format field");
      const size_t end =
          attribute ? std::min(name.find_first_of(".[", pos + 1), name.size()) : name.find(']', pos);
      if (end == name.npos) Fail(ErrorKind::kValue, "missing ']' in format string");
      const std::string part(name.substr(pos + 1, end - pos - 1));
      if (part.empty()) Fail(ErrorKind::kValue, "empty attribute in format string");
      if (attribute) {
        value = GetAttribute(runtime_, value, part);
      } else {
        const bool numeric = part.find_first_not_of("0123456789") == part.npos;
        value = GetItem(runtime_, value, numeric ? Value::Integer(*ParseInt(part, 10)) : Value::String(part));
      }
      pos = attribute ? end : end + 1;
    }
    return value;
  }

  Value First(std::string_view name) {
    const bool numbered = !name.empty() && name.find_first_not_of("0123456789") == name.npos;
    if (name.empty() || numbered) {
      const int numbering = name.empty() ? 1 : 2;
      if (numbering_ != 0 && numbering_ != numbering) {
        Fail(ErrorKind::kValue, "cannot switch between automatic and manual field numbering");
      }
      numbering_ = numbering;
      const Int index = name.empty() ? static_cast<Int>(next_++) : *ParseInt(name, 10);
      if (index >= static_cast<Int>(args_.positional.size())) {
        Fail(ErrorKind::kLookup, "replacement index {} out of range for positional args tuple",
             IntText(index));
      }
      return args_.positional[static_cast<size_t>(index)];
    }
    for (const auto& [key, value] : args_.named) {
      if (key == name) return value;
    }
    Fail(ErrorKind::kLookup, "no argument named '{}'", name);
  }

  Runtime& runtime_;
  const CallArgs& args_;
  size_t next_ = 0;
  int numbering_ = 0;  // 1 automatic, 2 manual
};

// ---- %
// -----------------------------------------------------------------------------------------------------

class PercentFormatter {
 public:
  explicit PercentFormatter(const Value& args) : args_(args) {
    if (args.is(Kind::kTuple)) {
      values_ = args.items();
    } else {
      values_ = {args};
    }
  }

  std::string Format(std::string_view format) {
    std::string out;
    for (size_t pos = 0; pos < format.size();) {
      const char c = format[pos++];
      if (c != '%') {
        out += c;
      } else {
        out += Conversion(format, &pos);
      }
      if (out.size() > kMaxTextBytes)
        Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
    }
    const bool all_used = next_ == values_.size() || used_mapping_ || args_.is(Kind::kDict) ||
                          args_.is(Kind::kList) || args_.is(Kind::kRange);
    if (!all_used) {
      if (args_.is_undefined()) args_.FailUndefined();
      Fail(ErrorKind::kType, "not all arguments converted during string formatting");
    }
    return out;
  }

 private:
  const Value& Take() {
    if (next_ >= values_.size()) Fail(ErrorKind::kType, "not enough arguments for format string");
    return values_[next_++];
  }

  int Star() {
    const Value& value = Take();
    if (!value.is_integral()) Fail(ErrorKind::kType, "* wants int");
    if (value.integer() > kMaxPrecision || value.integer() < -kMaxPrecision) {
      Fail(ErrorKind::kLimit, "a width or precision in a format is larger than {}", kMaxPrecision);
    }
    return static_cast<int>(value.integer());
  }

  std::string Conversion(std::string_view format, size_t* pos) {
    const auto peek = [&] {
      if (*pos >= format.size()) Fail(ErrorKind::kValue, "incomplete format");
      return format[*pos];
    };
    std::optional<Value> keyed;
    if (peek() == '(') keyed = Key(format, pos);
    Spec spec;
    for (bool left = false; std::string_view("-+ #0").find(peek()) != std::string_view::npos; ++*pos) {
      const char flag = peek();
      left = left || flag == '-';
      if (flag == '-') spec.align = '<';
      if (flag == '+' || (flag == ' ' && spec.sign != '+')) spec.sign = flag;
      if (flag == '#') spec.alternate = true;
      if (flag == '0' && !left) spec.zero = true;
    }
    if (peek() == '*') {
      ++*pos;
      const int width = Star();
      if (width < 0) spec.align = '<';
      spec.width = std::abs(width);
    } else {
      spec.width = ReadNumber(format, pos, kMaxWidth);
    }
    if (peek() == '.') {
      ++*pos;
      if (peek() == '*') {
        ++*pos;
        spec.precision = std::max(0, Star());
      } else {
        spec.precision = ReadNumber(format, pos, kMaxPrecision);
      }
    }
    while (peek() == 'l' || peek() == 'L' || peek() == 'h') ++*pos;
    spec.type = format[(*pos)++];
    if (spec.type == '%') return "%";
    return Convert(spec, keyed ? *keyed : Take());
  }

  Value Key(std::string_view format, size_t* pos) {
    if (!args_.is(Kind::kDict)) Fail(ErrorKind::kType, "format requires a mapping");
    const size_t begin = ++*pos;
    for (int open = 1; *pos < format.size();) {
      const char c = format[(*pos)++];
      open += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (open != 0) continue;
      const std::string key(format.substr(begin, *pos - 1 - begin));
      const Value* found = args_.dict().Find(std::string_view(key));
      if (found == nullptr) Fail(ErrorKind::kLookup, "no key '{}' for the format", key);
      used_mapping_ = true;
      return *found;
    }
    Fail(ErrorKind::kValue, "incomplete format key");
  }

  static std::string Convert(Spec spec, const Value& value) {
    const auto zero_fill = [&] {
      if (spec.zero && spec.align == 0) {
        spec.fill = "0";
        spec.align = '=';
      }
    };
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a':
        if (spec.align == 0) spec.align = '>';
        return FormatText(spec, spec.type == 's' ? value.Str() : value.Repr());
      case 'c':
        return Character(spec, value);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        zero_fill();
        return Integer(spec, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (value.is_undefined()) value.FailUndefined();
        if (!value.is_number()) Fail(ErrorKind::kType, "must be real number, not {}", value.TypeName());
        zero_fill();
        return FormatFloat(spec, value.number());
      default:
        Fail(ErrorKind::kValue, "unsupported format character '{}'", spec.type);
    }
  }

  static std::string Character(Spec spec, const Value& value) {
    if (spec.align == 0) spec.align = '>';
    spec.precision = -1;
    if (value.is_string() && value.text_length() == 1) return FormatText(spec, value.text());
    if (!value.is_integral()) Fail(ErrorKind::kType, "%c requires int or char");
    const Int code = value.integer();
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      Fail(ErrorKind::kOverflow, "%c arg is not a character");
    }
    std::string text;
    AppendUtf8(&text, static_cast<char32_t>(code));
    return FormatText(spec, text);
  }

  static std::string Integer(const Spec& spec, const Value& value) {
    if (value.is_undefined()) value.FailUndefined();
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    Int number = value.is_integral() ? value.integer() : 0;
    if (value.is(Kind::kFloat) && decimal) {
      if (!(std::abs(value.number()) < 0x1p126))
        Fail(ErrorKind::kOverflow, "cannot convert float to integer");
      number = static_cast<Int>(value.number());
    } else if (!value.is_integral()) {
      Fail(ErrorKind::kType, "%{} format: a number is required, not {}", spec.type, value.TypeName());
    }
    Spec plain = spec;
    plain.type = decimal ? 'd' : spec.type;
    if (spec.precision < 0) return FormatInt(plain, number);
    // The precision is a minimum of digits.
    Spec digits = plain;
    digits.width = 0;
    digits.sign = '-';
    digits.alternate = false;
    std::string text = FormatInt(digits, number < 0 ? -number : number);
    if (text.size() < static_cast<size_t>(spec.precision)) {
      text.insert(0, static_cast<size_t>(spec.precision) - text.size(), '0');
    }
    const std::string prefix = !spec.alternate || decimal ? "" : std::string("0") + spec.type;
    return Pad(plain, WithSign(number < 0, spec.sign) + prefix, text, '>');
  }

  const Value& args_;
  std::vector<Value> values_;
  size_t next_ = 0;
  bool used_mapping_ = false;
};

// The arguments as a Markup format sees them.
Value Escaped(Runtime& runtime, const Value& value) {
  return value.is_string() && !value.markup() ? runtime.Text(EscapeHtml(value.text())) : value;
}

}  // namespace

Value PercentFormat(Runtime& runtime, const Value& format, const Value& args) {
  runtime.Charge(format.text().size() / 4 + args.weight() / 16);
  Value shown = args;
  if (format.markup() && args.is(Kind::kTuple)) {
    std::vector<Value> items;
    for (const Value& item : args.items()) items.push_back(Escaped(runtime, item));
    shown = runtime.Tuple(std::move(items));
  } else if (format.markup()) {
    shown = Escaped(runtime, args);
  }
  return runtime.Text(PercentFormatter(shown).Format(format.text()), format.markup());
}

Value BraceFormat(Runtime& runtime, const Value& format, const CallArgs& args) {
  runtime.Charge(format.text().size() / 4);
  CallArgs shown = args;
  if (format.markup()) {
    for (Value& value : shown.positional) value = Escaped(runtime, value);
    for (auto& [key, value] : shown.named) value = Escaped(runtime, value);
  }
  return runtime.Text(BraceFormatter(runtime, shown).Format(format.text(), 2), format.markup());
}

}  // namespace thimble::jinja

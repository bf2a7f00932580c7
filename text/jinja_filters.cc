// The filter table, and the filters on text and numbers. Those on sequences are in jinja_sequence_filters.cc.
#include "text/jinja_filters.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <unordered_map>

#include "text/jinja_args.h"

namespace thimble::jinja {
namespace {

// Jinja2's soft_str: strings stay as they are, with their markup.
Value SoftText(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : runtime.Text(value.Str());
}

// A method of str on the text of the value.
Value CallMethod(Runtime& runtime, const Value& input, const char* method, CallArgs args) {
  return CallValue(runtime, *FindMethod(SoftText(runtime, input), method), args);
}

Value Upper(Runtime& runtime, const Value& input, const CallArgs& args) {
  return CallMethod(runtime, input, "upper", args);
}
Value Lower(Runtime& runtime, const Value& input, const CallArgs& args) {
  return CallMethod(runtime, input, "lower", args);
}
Value Capitalize(Runtime& runtime, const Value& input, const CallArgs& args) {
  return CallMethod(runtime, input, "capitalize", args);
}
Value Trim(Runtime& runtime, const Value& input, const CallArgs& args) {
  const BoundArgs bound("trim", args, {"chars"});
  return CallMethod(runtime, input, "strip", {{bound.Or(0, Value::None())}, {}});
}
Value Center(Runtime& runtime, const Value& input, const CallArgs& args) {
  const BoundArgs bound("center", args, {"width"});
  return CallMethod(runtime, input, "center", {{bound.Or(0, Value::Integer(80))}, {}});
}

Value Replace(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("replace", call, {"old", "new", "count"}, 2);
  return CallMethod(
      runtime, runtime.Text(input.Str()), "replace",
      {{runtime.Text(args[0].Str()), runtime.Text(args[1].Str()), Value::Integer(args.IntOr(2, -1))}, {}});
}

// Upper case behind spaces and opening brackets, lower case elsewhere.
Value Title(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("title", call, {});
  const Value value = SoftText(runtime, input);
  const std::string& text = value.text();
  runtime.Charge(text.size());
  const auto begins_word = [](char32_t c) {
    return IsSpace(c) ||
           (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != std::string_view::npos);
  };
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = NextCodePoint(text, &pos);
    if (begins_word(c)) {
      out.append(text, begin, pos - begin);
      continue;
    }
    out += jinja::Upper(std::string_view(text).substr(begin, pos - begin));
    const size_t rest = pos;
    for (size_t next = pos; pos < text.size() && !begins_word(NextCodePoint(text, &next)); pos = next) {
    }
    out += jinja::Lower(std::string_view(text).substr(rest, pos - rest));
  }
  return runtime.Text(std::move(out), false);
}

Value String(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("string", call, {});
  return SoftText(runtime, input);
}

Value Safe(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("safe", call, {});
  return runtime.Text(input.Str(), true);
}

Value Escape(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("escape", call, {});
  if (input.is_string() && input.markup()) return input;
  return runtime.Text(EscapeHtml(input.Str()), true);
}

Value ForceEscape(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("forceescape", call, {});
  return runtime.Text(EscapeHtml(input.Str()), true);
}

Value Format(Runtime& runtime, const Value& input, const CallArgs& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    Fail(ErrorKind::kRuntime, "format cannot take positional and keyword arguments at the same time");
  }
  const Value format = SoftText(runtime, input);
  if (args.named.empty()) return PercentFormat(runtime, format, runtime.Tuple(args.positional));
  auto fields = std::make_shared<DictObject>();
  for (const auto& [name, value] : args.named) fields->Set(runtime.Text(name), value);
  return PercentFormat(runtime, format, Value::Dict(std::move(fields)));
}

Value Indent(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("indent", call, {"width", "first", "blank"});
  if (input.is_undefined()) input.FailUndefined();
  if (!input.is_string()) Fail(ErrorKind::kType, "indent needs a str, not '{}'", input.TypeName());
  std::string indent;
  if (args.Has(0) && args[0].is_string()) {
    indent = args[0].text();
  } else {
    const Int width = args.Has(0) && args[0].is_none() ? -1 : args.IntOr(0, 4);
    if (args.Has(0) && args[0].is_none()) Fail(ErrorKind::kType, "indent's width must be an int or a str");
    if (width > static_cast<Int>(kMaxTextBytes)) Fail(ErrorKind::kLimit, "an indent is too wide");
    indent.assign(static_cast<size_t>(std::max<Int>(width, 0)), ' ');
  }
  const bool blank = args.IsTrue(2);
  std::string out = args.IsTrue(1) ? indent : "";
  bool is_first = true;
  const std::string text = input.text() + "\n";
  for (const auto line : SplitLines(text, false)) {
    if (!is_first) out += "\n";
    if (!is_first && (blank || !line.empty())) out += indent;
    out += line;
    is_first = false;
    runtime.Charge(1 + (indent.size() + line.size()) / 4);
    if (out.size() > kMaxTextBytes)
      Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  }
  return runtime.Text(std::move(out), input.markup());
}

Value Truncate(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("truncate", call, {"length", "killwords", "end", "leeway"});
  if (input.is_undefined()) input.FailUndefined();
  if (!input.is_string()) Fail(ErrorKind::kType, "truncate needs a str, not '{}'", input.TypeName());
  const std::string end = args.TextOr(2, "...");
  const Int length = args.IntOr(0, 255), leeway = args.IntOr(3, 5);
  const Int kept = length - static_cast<Int>(CodePointCount(end));
  if (kept < 0 || leeway < 0) Fail(ErrorKind::kRuntime, "truncate's length or leeway is too small");
  if (static_cast<Int>(input.text_length()) <= length + leeway) return input;
  std::string text = input.text().substr(0, ByteOffset(input.text(), static_cast<size_t>(kept)));
  if (!args.IsTrue(1)) {
    const size_t space = text.rfind(' ');
    if (space != std::string::npos) text.resize(space);
  }
  return runtime.Text(text + end, input.markup());
}

Value WordCount(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("wordcount", call, {});
  const std::string text = input.Str();
  runtime.Charge(text.size());
  Int count = 0;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextCodePoint(text, &pos);
    const bool is_word = c == '_' || IsAlnum(c);
    count += is_word && !in_word;
    in_word = is_word;
  }
  return Value::Integer(count);
}

std::string PercentEncode(std::string_view text, bool form) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 &&
        (std::isalnum(byte) != 0 || std::string_view("_.-~").find(c) != std::string_view::npos)) {
      out += c;
    } else if (c == '/' && !form) {
      out += c;
    } else {
      out += form && c == ' ' ? "+" : fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

Value UrlEncode(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("urlencode", call, {});
  if (input.is_string() || !IsIterable(input)) return runtime.Text(PercentEncode(input.Str(), false));
  std::string out;
  const Value pairs = input.is(Kind::kDict) ? Value::View(input, 'i') : input;
  for (const Value& pair : Collect(runtime, pairs)) {
    const auto parts = Collect(runtime, pair);
    if (parts.size() != 2) Fail(ErrorKind::kValue, "urlencode needs pairs, got {} items", parts.size());
    if (!out.empty()) out += '&';
    out += PercentEncode(parts[0].Str(), true) + "=" + PercentEncode(parts[1].Str(), true);
    runtime.Charge(16);
  }
  return runtime.Text(std::move(out));
}

// ---- numbers ----

std::optional<Value> IntOfFloat(double value, bool overflow_fails) {
  if (std::isnan(value) || (std::isinf(value) && !overflow_fails)) return std::nullopt;
  if (std::isinf(value)) Fail(ErrorKind::kOverflow, "cannot convert float infinity to integer");
  if (std::abs(value) >= 0x1p126) Fail(ErrorKind::kLimit, "integers beyond 127 bits are not supported");
  return Value::Integer(static_cast<Int>(value));
}

Value ToInt(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("int", call, {"default", "base"});
  const Value fallback = args.Or(0, Value::Integer(0));
  const Int base = args.IntOr(1, 10);
  if (base != 0 && (base < 2 || base > 36)) return fallback;
  if (input.is_undefined()) input.FailUndefined();
  if (input.is_integral()) return Value::Integer(input.integer());
  if (input.is(Kind::kFloat)) return IntOfFloat(input.number(), true).value_or(fallback);
  if (!input.is_string()) return fallback;
  if (const auto value = ParseInt(input.text(), static_cast<int>(base))) return Value::Integer(*value);
  if (const auto value = ParseFloat(input.text())) return IntOfFloat(*value, false).value_or(fallback);
  return fallback;
}

Value ToFloat(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("float", call, {"default"});
  if (input.is_undefined()) input.FailUndefined();
  if (input.is_number()) return Value::Float(input.number());
  if (input.is_string()) {
    if (const auto value = ParseFloat(input.text())) return Value::Float(*value);
  }
  return args.Or(0, Value::Float(0));
}

Value Abs(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("abs", call, {});
  if (!input.is_number()) Fail(ErrorKind::kType, "bad operand type for abs(): '{}'", input.TypeName());
  if (input.is(Kind::kFloat)) return Value::Float(std::abs(input.number()));
  return input.integer() < 0 ? Negate(input) : Value::Integer(input.integer());
}

// Python's round(int, digits): a multiple of 10**-digits, halves to the even one.
Int RoundInt(Int value, Int digits) {
  if (digits >= 0) return value;
  if (digits < -37) return 0;
  Int unit = 1;
  for (Int i = digits; i < 0; ++i) unit *= 10;
  Int remainder = value % unit;
  if (remainder < 0) remainder += unit;
  const Int low = value - remainder;
  const bool up = remainder > unit - remainder || (remainder == unit - remainder && (low / unit) % 2 != 0);
  return up ? low + unit : low;
}

// Python's round(float, digits): correctly rounded decimal digits.
double RoundFloat(double value, Int digits) {
  constexpr int kMaxDigits = 330, kMinDigits = -309;
  if (!std::isfinite(value) || digits > kMaxDigits) return value;
  if (digits < kMinDigits) return std::copysign(0.0, value);
  if (digits < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / unit) * unit;
  }
  std::array<char, 700> buffer;  // 309 digits before the point and kMaxDigits after it
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(digits), value);
  return std::strtod(buffer.data(), nullptr);
}

Value Round(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("round", call, {"precision", "method"});
  const std::string method = args.TextOr(1, "common");
  if (input.is_undefined()) input.FailUndefined();
  if (!input.is_number()) Fail(ErrorKind::kType, "type {} doesn't define __round__", input.TypeName());
  const Int digits = args.IntOr(0, 0);
  runtime.Charge(kObjectSteps + static_cast<size_t>(std::clamp<Int>(digits, 0, 400)));
  if (method == "common") {
    if (input.is_integral()) return Value::Integer(RoundInt(input.integer(), digits));
    return Value::Float(RoundFloat(input.number(), digits));
  }
  if (method != "ceil" && method != "floor") {
    Fail(ErrorKind::kRuntime, "method must be common, ceil or floor");
  }
  const Value scale = Binary(runtime, BinaryOp::kPow, Value::Integer(10), Value::Integer(digits));
  const Value scaled = Binary(runtime, BinaryOp::kMul, input, scale);
  Value whole = scaled;
  if (scaled.is(Kind::kFloat)) {
    const double d = method == "ceil" ? std::ceil(scaled.number()) : std::floor(scaled.number());
    const auto as_int = IntOfFloat(d, true);
    if (!as_int) Fail(ErrorKind::kValue, "cannot convert float NaN to integer");
    whole = *as_int;
  }
  return Binary(runtime, BinaryOp::kDiv, whole, scale);
}

Value Default(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("default", call, {"default_value", "boolean"});
  const bool replaced = input.is_undefined() || (args.IsTrue(1) && !input.Truthy());
  return replaced ? args.Or(0, runtime.Text("")) : input;
}

Value Attr(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("attr", call, {"name"}, 1);
  if (!args[0].is_string()) Fail(ErrorKind::kType, "attr needs a name");
  if (input.is_undefined()) input.FailUndefined();
  return GetAttributeOnly(runtime, input, args[0].text());
}

}  // namespace

Filter FindFilter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> table = {
      {"abs", Abs},
      {"attr", Attr},
      {"capitalize", Capitalize},
      {"center", Center},
      {"d", Default},
      {"default", Default},
      {"e", Escape},
      {"escape", Escape},
      {"float", ToFloat},
      {"forceescape", ForceEscape},
      {"format", Format},
      {"indent", Indent},
      {"int", ToInt},
      {"lower", Lower},
      {"replace", Replace},
      {"round", Round},
      {"safe", Safe},
      {"string", String},
      {"title", Title},
      {"tojson", ToJson},
      {"trim", Trim},
      {"truncate", Truncate},
      {"upper", Upper},
      {"urlencode", UrlEncode},
      {"wordcount", WordCount},
  };
  const auto it = table.find(name);
  return it == table.end() ? FindSequenceFilter(name) : it->second;
}

Value ApplyFilter(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args) {
  const Filter filter = FindFilter(name);
  if (filter == nullptr) Fail(ErrorKind::kRuntime, "there is no filter named '{}'", name);
  return filter(runtime, input, args);
}

}  // namespace thimble::jinja

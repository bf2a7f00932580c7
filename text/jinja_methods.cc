// Methods of str, list, tuple and dict.
#include <algorithm>
#include <unordered_map>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"

namespace thimble::jinja {
namespace {

using Method = Value (*)(Runtime&, const Value& self, const CallArgs& args);
using MethodTable = std::unordered_map<std::string_view, Method>;

struct BoundMethod : HostObject {
  const char* TypeName() const override { return "builtin_function_or_method"; }
  std::string Repr() const override { return fmt::format("<built-in method {}>", name); }
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const CallArgs& args) override {
    runtime.Charge(self.is_string() ? self.text().size() / 16 : 1);
    return method(runtime, self, args);
  }
  Value self;
  std::string_view name;
  Method method = nullptr;
};

Value Same(Runtime& runtime, const Value& self, std::string text) {
  return runtime.Text(std::move(text), self.markup());
}

// The part of `text` that the optional start and end arguments (at `first`) select, and its first code point.
struct Window {
  std::string_view text;
  size_t start = 0;
  bool empty_range = false;  // start beyond the end: not even "" is found there
};

Window SelectWindow(const Value& self, const BoundArgs& args, size_t first) {
  const Int length = static_cast<Int>(self.text_length());
  const auto clamp = [&](Int i) {
    return std::clamp<Int>(i < 0 ? std::max<Int>(i, -length) + length : i, 0, length);
  };
  const Int raw_start = args.IntOr(first, 0);
  const Int start = clamp(raw_start), end = clamp(args.IntOr(first + 1, length));
  const std::string& text = self.text();
  const size_t begin = ByteOffset(text, static_cast<size_t>(start));
  const size_t stop = std::max(begin, ByteOffset(text, static_cast<size_t>(end)));
  return {std::string_view(text).substr(begin, stop - begin), static_cast<size_t>(start),
          raw_start > length || start > end};
}

const std::string& TextArgument(const char* function, const Value& value) {
  if (value.is_undefined()) value.FailUndefined();
  if (!value.is_string()) Fail(ErrorKind::kType, "{}() needs a str, not '{}'", function, value.TypeName());
  return value.text();
}

template <bool kLeft, bool kRight>
Value StripMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("strip", call, {"chars"});
  std::optional<std::string_view> chars;
  if (args.Given(0)) chars = TextArgument("strip", args[0]);
  runtime.Charge(self.text().size() * (1 + (chars ? chars->size() / 64 : 0)) / 8);
  return Same(runtime, self, std::string(Strip(self.text(), chars, kLeft, kRight)));
}

template <std::string (*kConvert)(std::string_view)>
Value ConvertMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("str method", call, {});
  runtime.Charge(self.text().size());
  return Same(runtime, self, kConvert(self.text()));
}

template <bool (*kTest)(char32_t)>
Value ClassMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("str method", call, {});
  runtime.Charge(self.text().size());
  for (size_t pos = 0; pos < self.text().size();) {
    if (!kTest(NextCodePoint(self.text(), &pos))) return Value::Bool(false);
  }
  return Value::Bool(!self.text().empty());
}

template <bool (*kTest)(std::string_view)>
Value CaseMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("str method", call, {});
  runtime.Charge(self.text().size());
  return Value::Bool(kTest(self.text()));
}

bool IsAscii(char32_t c) {
  return c < 0x80;
}

template <bool kAtStart>
Value AffixMethod(Runtime&, const Value& self, const CallArgs& call) {
  const char* name = kAtStart ? "startswith" : "endswith";
  const BoundArgs args(name, call, {"affix", "start", "end"}, 1);
  const Window window = SelectWindow(self, args, 1);
  const auto matches = [&](const Value& affix) {
    const std::string& text = TextArgument(name, affix);
    if (window.empty_range) return false;
    return kAtStart ? window.text.substr(0, text.size()) == text
                    : window.text.size() >= text.size() &&
                          window.text.substr(window.text.size() - text.size()) == text;
  };
  if (!args[0].is(Kind::kTuple)) return Value::Bool(matches(args[0]));
  return Value::Bool(std::any_of(args[0].items().begin(), args[0].items().end(), matches));
}

template <bool kFromRight, bool kRaises>
Value FindMethodOfText(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("find", call, {"sub", "start", "end"}, 1);
  const std::string& needle = TextArgument("find", args[0]);
  const Window window = SelectWindow(self, args, 1);
  runtime.ChargeSearch(window.text, needle);
  size_t at = std::string::npos;
  if (!window.empty_range) at = kFromRight ? window.text.rfind(needle) : window.text.find(needle);
  if (at == std::string::npos) {
    if (kRaises) Fail(ErrorKind::kValue, "substring not found");
    return Value::Integer(-1);
  }
  return Value::Integer(static_cast<Int>(window.start + CodePointCount(window.text.substr(0, at))));
}

Value TextCount(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("count", call, {"sub", "start", "end"}, 1);
  const std::string& needle = TextArgument("count", args[0]);
  const Window window = SelectWindow(self, args, 1);
  runtime.ChargeSearch(window.text, needle);
  if (window.empty_range) return Value::Integer(0);
  if (needle.empty()) return Value::Integer(static_cast<Int>(CodePointCount(window.text) + 1));
  Int count = 0;
  for (size_t at = window.text.find(needle); at != std::string::npos;
       at = window.text.find(needle, at + needle.size())) {
    ++count;
  }
  return Value::Integer(count);
}

Value TextReplace(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("replace", call, {"old", "new", "count"}, 2);
  const std::string &text = self.text(), &from = TextArgument("replace", args[0]);
  const std::string& to = TextArgument("replace", args[1]);
  Int left = args.IntOr(2, -1);
  runtime.ChargeSearch(text, from);
  std::string out;
  size_t pos = 0;
  const auto check = [&] {
    if (out.size() > kMaxTextBytes)
      Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  };
  while (left != 0) {
    if (from.empty()) {  // between all characters
      out += to;
      --left;
      if (pos == text.size()) break;
      const size_t begin = pos;
      NextCodePoint(text, &pos);
      out.append(text, begin, pos - begin);
    } else {
      const size_t at = text.find(from, pos);
      if (at == std::string::npos) break;
      out.append(text, pos, at - pos);
      out += to;
      pos = at + from.size();
      --left;
    }
    check();
  }
  out.append(text, pos);
  return Same(runtime, self, std::move(out));
}

// Pieces between runs of white space; at most `max_splits` splits if that is not negative.
std::vector<std::string_view> SplitSpace(std::string_view text, Int max_splits, bool from_right) {
  std::vector<std::string_view> pieces;
  while (true) {
    text = Strip(text, std::nullopt, !from_right, from_right);
    if (text.empty()) break;
    if (max_splits >= 0 && static_cast<Int>(pieces.size()) == max_splits) {
      pieces.push_back(Strip(text, std::nullopt, from_right, !from_right));
      break;
    }
    size_t cut = from_right ? text.size() : 0;
    if (from_right) {
      while (cut > 0) {
        size_t start = cut - 1;
        while (start > 0 && (text[start] & 0xc0) == 0x80) --start;
        size_t pos = start;
        if (IsSpace(NextCodePoint(text, &pos))) break;
        cut = start;
      }
      pieces.push_back(text.substr(cut));
      text = text.substr(0, cut);
    } else {
      while (cut < text.size()) {
        size_t pos = cut;
        if (IsSpace(NextCodePoint(text, &pos))) break;
        cut = pos;
      }
      pieces.push_back(text.substr(0, cut));
      text = text.substr(cut);
    }
  }
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator, Int max_splits,
                                      bool from_right) {
  std::vector<std::string_view> pieces;
  while (max_splits < 0 || static_cast<Int>(pieces.size()) < max_splits) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    const size_t after = at + separator.size();
    pieces.push_back(from_right ? text.substr(after) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(after);
  }
  pieces.push_back(text);
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Value TextList(Runtime& runtime, const Value& self, const std::vector<std::string_view>& pieces) {
  runtime.Charge(pieces.size() * kItemSteps);
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const auto piece : pieces) items.push_back(Same(runtime, self, std::string(piece)));
  return runtime.List(std::move(items));
}

template <bool kFromRight>
Value SplitMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("split", call, {"sep", "maxsplit"});
  const Int max_splits = args.IntOr(1, -1);
  if (args.Has(0) && args[0].is_undefined()) args[0].FailUndefined();
  if (!args.Given(0)) return TextList(runtime, self, SplitSpace(self.text(), max_splits, kFromRight));
  const std::string& separator = TextArgument("split", args[0]);
  if (separator.empty()) Fail(ErrorKind::kValue, "empty separator");
  runtime.ChargeSearch(self.text(), separator);
  return TextList(runtime, self, SplitAt(self.text(), separator, max_splits, kFromRight));
}

template <bool kFromRight>
Value PartitionMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("partition", call, {"sep"}, 1);
  const std::string &text = self.text(), &separator = TextArgument("partition", args[0]);
  if (separator.empty()) Fail(ErrorKind::kValue, "empty separator");
  runtime.ChargeSearch(self.text(), separator);
  const size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  const Value empty = Same(runtime, self, "");
  if (at == std::string::npos) {
    return runtime.Tuple(kFromRight ? std::vector{empty, empty, self} : std::vector{self, empty, empty});
  }
  return runtime.Tuple({Same(runtime, self, text.substr(0, at)), args[0],
                        Same(runtime, self, text.substr(at + separator.size()))});
}

Value SplitLinesMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("splitlines", call, {"keepends"});
  return TextList(runtime, self, SplitLines(self.text(), args.IsTrue(0)));
}

Value JoinMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("join", call, {"iterable"}, 1);
  std::string out;
  bool first = true;
  const auto iterator = Iterate(runtime, args[0]);
  for (Value item; iterator->Next(runtime, &item); first = false) {
    if (!item.is_string()) {
      Fail(ErrorKind::kType, "sequence item: expected str instance, {} found", item.TypeName());
    }
    const size_t before = out.size();
    if (!first) out += self.text();
    out += self.markup() && !item.markup() ? EscapeHtml(item.text()) : item.text();
    runtime.Charge((out.size() - before) / 4 + 1);
  }
  return Same(runtime, self, std::move(out));
}

// str.center, ljust, rjust: 'c', 'l', 'r'.
template <char kWhere>
Value JustifyMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("justify", call, {"width", "fillchar"}, 1);
  const std::string fill = args.TextOr(1, " ");
  if (CodePointCount(fill) != 1)
    Fail(ErrorKind::kType, "the fill character must be exactly one character long");
  const Int width = args.IntOr(0, 0), length = static_cast<Int>(self.text_length());
  if (width <= length) return self;
  if (width > static_cast<Int>(kMaxTextBytes))
    Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  const Int margin = width - length;
  const Int left = kWhere == 'l' ? 0 : kWhere == 'r' ? margin : margin / 2 + (margin & width & 1);
  std::string out;
  for (Int i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (Int i = left; i < margin; ++i) out += fill;
  return Same(runtime, self, std::move(out));
}

Value ZeroFill(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("zfill", call, {"width"}, 1);
  const Int missing = args.IntOr(0, 0) - static_cast<Int>(self.text_length());
  if (missing <= 0) return self;
  if (missing > static_cast<Int>(kMaxTextBytes))
    Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  const std::string& text = self.text();
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  return Same(runtime, self,
              text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') + text.substr(sign));
}

template <bool kPrefix>
Value RemoveAffix(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("removeprefix", call, {"affix"}, 1);
  const std::string &text = self.text(), &affix = TextArgument("removeprefix", args[0]);
  const bool found = text.size() >= affix.size() &&
                     text.compare(kPrefix ? 0 : text.size() - affix.size(), affix.size(), affix) == 0;
  if (!found) return self;
  return Same(runtime, self,
              kPrefix ? text.substr(affix.size()) : text.substr(0, text.size() - affix.size()));
}

Value FormatMapMethod(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("format_map", call, {"mapping"}, 1);
  if (!args[0].is(Kind::kDict)) Fail(ErrorKind::kType, "format_map() needs a mapping");
  CallArgs fields;
  for (const auto& [key, value] : args[0].dict().entries()) {
    if (key.is_string()) fields.named.emplace_back(key.text(), value);
  }
  return BraceFormat(runtime, self, fields);
}

Value SequenceIndex(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("index", call, {"value", "start", "stop"}, 1);
  const Value window =
      GetSlice(runtime, self, args.Or(1, Value::None()), args.Or(2, Value::None()), Value::None());
  const Int length = static_cast<Int>(self.items().size()), start = args.IntOr(1, 0);
  const Int offset = std::clamp<Int>(start < 0 ? start + length : start, 0, length);
  const auto& items = window.items();
  for (size_t i = 0; i < items.size(); ++i) {
    if (Compare(runtime, CompareOp::kEq, items[i], args[0]))
      return Value::Integer(offset + static_cast<Int>(i));
  }
  Fail(ErrorKind::kValue, "{} is not in {}", args[0].TypeName(), self.TypeName());
}

Value SequenceCount(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("count", call, {"value"}, 1);
  Int count = 0;
  for (const Value& item : self.items()) {
    runtime.Charge();
    count += Compare(runtime, CompareOp::kEq, item, args[0]);
  }
  return Value::Integer(count);
}

Value CopyMethod(Runtime&, const Value& self, const CallArgs& call) {
  const BoundArgs args("copy", call, {});
  return self;
}

Value DictGet(Runtime& runtime, const Value& self, const CallArgs& call) {
  const BoundArgs args("get", call, {"key", "default"}, 1);
  runtime.Charge(args[0].weight() / 16);
  const Value* found = self.dict().Find(args[0]);
  return found != nullptr ? *found : args.Or(1, Value::None());
}

template <char kWhich>
Value DictView(Runtime&, const Value& self, const CallArgs& call) {
  const BoundArgs args("dict view", call, {});
  return Value::View(self, kWhich);
}

Value DictFromKeys(Runtime& runtime, const Value&, const CallArgs& call) {
  const BoundArgs args("fromkeys", call, {"iterable", "value"}, 1);
  auto dict = std::make_shared<DictObject>();
  const auto iterator = Iterate(runtime, args[0]);
  for (Value key; iterator->Next(runtime, &key);) {
    runtime.Charge(kDictEntrySteps + key.weight() / 16);
    dict->Set(key, args.Or(1, Value::None()));
  }
  return Value::Dict(std::move(dict));
}

Value Unsupported(Runtime&, const Value& self, const CallArgs&) {
  Fail(ErrorKind::kRuntime, "this method of '{}' is not supported", self.TypeName());
}

const MethodTable& TextMethods() {
  static const MethodTable table = {
      {"strip", StripMethod<true, true>},
      {"lstrip", StripMethod<true, false>},
      {"rstrip", StripMethod<false, true>},
      {"upper", ConvertMethod<Upper>},
      {"lower", ConvertMethod<Lower>},
      {"casefold", ConvertMethod<Lower>},
      {"capitalize", ConvertMethod<Capitalize>},
      {"title", ConvertMethod<TitleCase>},
      {"swapcase", ConvertMethod<SwapCase>},
      {"isspace", ClassMethod<IsSpace>},
      {"isalpha", ClassMethod<IsAlpha>},
      {"isdigit", ClassMethod<IsDigit>},
      {"isdecimal", ClassMethod<IsDecimal>},
      {"isalnum", ClassMethod<IsAlnum>},
      {"isascii", ClassMethod<IsAscii>},
      {"islower", CaseMethod<IsLowerText>},
      {"isupper", CaseMethod<IsUpperText>},
      {"startswith", AffixMethod<true>},
      {"endswith", AffixMethod<false>},
      {"find", FindMethodOfText<false, false>},
      {"rfind", FindMethodOfText<true, false>},
      {"index", FindMethodOfText<false, true>},
      {"rindex", FindMethodOfText<true, true>},
      {"count", TextCount},
      {"replace", TextReplace},
      {"split", SplitMethod<false>},
      {"rsplit", SplitMethod<true>},
      {"partition", PartitionMethod<false>},
      {"rpartition", PartitionMethod<true>},
      {"splitlines", SplitLinesMethod},
      {"join", JoinMethod},
      {"center", JustifyMethod<'c'>},
      {"ljust", JustifyMethod<'l'>},
      {"rjust", JustifyMethod<'r'>},
      {"zfill", ZeroFill},
      {"removeprefix", RemoveAffix<true>},
      {"removesuffix", RemoveAffix<false>},
      {"format", BraceFormat},
      {"format_map", FormatMapMethod},
      {"encode", Unsupported},
      {"expandtabs", Unsupported},
      {"isidentifier", Unsupported},
      {"isnumeric", Unsupported},
      {"isprintable", Unsupported},
      {"istitle", Unsupported},
      {"maketrans", Unsupported},
      {"translate", Unsupported},
  };
  return table;
}

const MethodTable& SequenceMethods() {
  static const MethodTable table = {{"index", SequenceIndex}, {"count", SequenceCount}};
  return table;
}

const MethodTable& ListMethods() {
  static const MethodTable table = {{"index", SequenceIndex}, {"count", SequenceCount}, {"copy", CopyMethod}};
  return table;
}

const MethodTable& DictMethods() {
  static const MethodTable table = {{"get", DictGet},        {"items", DictView<'i'>},
                                    {"keys", DictView<'k'>}, {"values", DictView<'v'>},
                                    {"copy", CopyMethod},    {"fromkeys", DictFromKeys}};
  return table;
}

const MethodTable* MethodsOf(Kind kind) {
  switch (kind) {
    case Kind::kString:
      return &TextMethods();
    case Kind::kList:
      return &ListMethods();
    case Kind::kTuple:
      return &SequenceMethods();
    case Kind::kDict:
      return &DictMethods();
    default:
      return nullptr;
  }
}

}  // namespace

std::optional<Value> FindMethod(const Value& object, std::string_view name) {
  const MethodTable* table = MethodsOf(object.kind());
  if (table == nullptr) return std::nullopt;
  const auto it = table->find(name);
  if (it == table->end()) return std::nullopt;
  auto method = std::make_shared<BoundMethod>();
  Absorb(method.get(), object);
  method->self = object;
  method->name = it->first;
  method->method = it->second;
  return Value::Host(std::move(method));
}

}  // namespace thimble::jinja

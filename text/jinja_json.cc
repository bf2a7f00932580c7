// Transformers' `tojson`: Python's json.dumps with ensure_ascii off.
#include <algorithm>
#include <cmath>

#include "text/jinja_args.h"
#include "text/jinja_filters.h"

namespace thimble::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const BoundArgs& args) : runtime_(runtime) {
    ascii_ = args.IsTrue(0);
    if (args.Given(1)) {
      indent_ = args[1].is_string() ? args[1].text() : std::string(Spaces(args.IntOr(1, 0)), ' ');
      item_separator_ = ",";
    }
    if (args.Given(2)) {
      const auto parts = Collect(runtime, args[2]);
      if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string()) {
        Fail(ErrorKind::kType, "tojson's separators must be two strings");
      }
      item_separator_ = parts[0].text();
      key_separator_ = parts[1].text();
    }
    sort_keys_ = args.IsTrue(3);
  }

  std::string Write(const Value& value) {
    Append(value);
    return std::move(out_);
  }

 private:
  static size_t Spaces(Int count) {
    constexpr Int kMaxIndent = 1000;
    if (count > kMaxIndent)
      Fail(ErrorKind::kLimit, "tojson indents by at most {} characters", IntText(kMaxIndent));
    return static_cast<size_t>(std::max<Int>(count, 0));
  }

  void Append(const Value& value) {
    runtime_.Charge(2);
    if (out_.size() > kMaxTextBytes)
      Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return;
      case Kind::kBool:
        out_ += value.integer() != 0 ? "true" : "false";
        return;
      case Kind::kInt:
        out_ += IntText(value.integer());
        return;
      case Kind::kFloat:
        out_ += Number(value.number());
        return;
      case Kind::kString:
        return AppendText(value.text());
      case Kind::kList:
      case Kind::kTuple:
        return AppendList(value.items());
      case Kind::kDict:
        return AppendDict(value.dict());
      default:
        Fail(ErrorKind::kType, "Object of type {} is not JSON serializable", value.TypeName());
    }
  }

  static std::string Number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(value);
  }

  void AppendText(std::string_view text) {
    runtime_.Charge(text.size() / 4);
    out_ += '"';
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      const char32_t c = NextCodePoint(text, &pos);
      constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
      const size_t special = c < 0x80 ? kSpecial.find(static_cast<char>(c)) : kSpecial.npos;
      if (special != kSpecial.npos) {
        out_ += {'\\', kLetters[special]};
      } else if (c < 0x20 || (ascii_ && c >= 0x7f)) {
        AppendEscape(c);
      } else {
        out_.append(text.substr(begin, pos - begin));
      }
    }
    out_ += '"';
  }

  void AppendEscape(char32_t c) {
    const auto unit = [&](uint32_t code) { out_ += fmt::format("\\u{:04x}", code); };
    if (c < 0x10000) return unit(c);
    unit(0xd800 + ((c - 0x10000) >> 10));
    unit(0xdc00 + ((c - 0x10000) & 0x3ff));
  }

  void NewLine() {
    if (!indent_) return;
    out_ += '\n';
    runtime_.Charge(indent_->size() * static_cast<size_t>(level_) / 4);
    for (int i = 0; i < level_; ++i) out_ += *indent_;
  }

  template <typename Items, typename AppendItem>
  void AppendItems(char open, char close, const Items& items, const AppendItem& append) {
    out_ += open;
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += item_separator_;
      NewLine();
      append(items[i]);
    }
    --level_;
    if (!items.empty()) NewLine();
    out_ += close;
  }

  void AppendList(const std::vector<Value>& items) {
    AppendItems('[', ']', items, [&](const Value& item) { Append(item); });
  }

  void AppendDict(const DictObject& dict) {
    const auto append = [&](const DictObject::Entry& entry) {
      AppendKey(entry.first);
      out_ += key_separator_;
      Append(entry.second);
    };
    if (!sort_keys_) return AppendItems('{', '}', dict.entries(), append);
    auto entries = dict.entries();
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const auto& a, const auto& b) { return Less(runtime_, a.first, b.first); });
    AppendItems('{', '}', entries, append);
  }

  void AppendKey(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return AppendText(key.text());
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat:
        out_ += '"';
        Append(key);
        out_ += '"';
        return;
      default:
        Fail(ErrorKind::kType, "keys must be str, int, float, bool or None, not {}", key.TypeName());
    }
  }

  Runtime& runtime_;
  bool ascii_ = false, sort_keys_ = false;
  std::optional<std::string> indent_;
  std::string item_separator_ = ", ", key_separator_ = ": ";
  int level_ = 0;
  std::string out_;
};

}  // namespace

Value ToJson(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("tojson", call, {"ensure_ascii", "indent", "separators", "sort_keys"});
  return runtime.Text(JsonWriter(runtime, args).Write(input));
}

}  // namespace thimble::jinja

#include "text/jinja_value.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace thimble::jinja {

void Absorb(Object* parent, const Value& child) {
  parent->depth = std::max(parent->depth, child.depth() + 1);
  parent->weight += child.weight();
  if (parent->depth > kMaxValueDepth)
    Fail(ErrorKind::kLimit, "a value is nested deeper than {}", kMaxValueDepth);
  if (parent->weight > kMaxValueWeight)
    Fail(ErrorKind::kLimit, "a value is larger than {} bytes", kMaxValueWeight);
}

namespace {

std::shared_ptr<SequenceObject> MakeSequence(std::vector<Value> items) {
  auto sequence = std::make_shared<SequenceObject>();
  sequence->items = std::move(items);
  for (const Value& item : sequence->items) Absorb(sequence.get(), item);
  return sequence;
}

// Exact comparison of an integer with a finite double.
bool EqualIntFloat(Int i, double d) {
  return d == std::floor(d) && std::abs(d) < 0x1p126 && static_cast<Int>(d) == i;
}

void AppendRepr(std::string* out, const Value& value);

void AppendItems(std::string* out, const std::vector<Value>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out += ", ";
    AppendRepr(out, items[i]);
  }
}

void AppendDict(std::string* out, const DictObject& dict) {
  *out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.entries()) {
    if (!first) *out += ", ";
    first = false;
    AppendRepr(out, key);
    *out += ": ";
    AppendRepr(out, value);
  }
  *out += '}';
}

void AppendView(std::string* out, const ViewObject& view) {
  *out += view.which == 'k' ? "dict_keys([" : view.which == 'v' ? "dict_values([" : "dict_items([";
  for (size_t i = 0; i < view.source->entries().size(); ++i) {
    if (i > 0) *out += ", ";
    AppendRepr(out, view.At(i));
  }
  *out += "])";
}

void AppendRange(std::string* out, const RangeObject& range) {
  *out += "range(" + IntText(range.start) + ", " + IntText(range.stop);
  if (range.step != 1) *out += ", " + IntText(range.step);
  *out += ')';
}

void AppendRepr(std::string* out, const Value& value) {
  if (out->size() > kMaxTextBytes) Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  switch (value.kind()) {
    case Kind::kUndefined:
      *out += "Undefined";
      break;
    case Kind::kNone:
      *out += "None";
      break;
    case Kind::kBool:
      *out += value.integer() != 0 ? "True" : "False";
      break;
    case Kind::kInt:
      *out += IntText(value.integer());
      break;
    case Kind::kFloat:
      *out += FloatRepr(value.number());
      break;
    case Kind::kString:
      *out += value.markup() ? "Markup(" + QuotedRepr(value.text()) + ")" : QuotedRepr(value.text());
      break;
    case Kind::kList:
      *out += '[';
      AppendItems(out, value.items());
      *out += ']';
      break;
    case Kind::kTuple:
      *out += '(';
      AppendItems(out, value.items());
      *out += value.items().size() == 1 ? ",)" : ")";
      break;
    case Kind::kDict:
      AppendDict(out, value.dict());
      break;
    case Kind::kRange:
      AppendRange(out, value.range());
      break;
    case Kind::kView:
      AppendView(out, value.view());
      break;
    case Kind::kIterator:
      *out += "<generator object>";
      break;
    case Kind::kHost:
      *out += value.host().Repr();
      break;
  }
}

bool EqualEntries(const DictObject& a, const DictObject& b) {
  if (a.entries().size() != b.entries().size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const DictObject::Entry& entry) {
    const Value* other = b.Find(entry.first);
    return other != nullptr && Equal(entry.second, *other);
  });
}

bool EqualRanges(const RangeObject& a, const RangeObject& b) {
  if (a.size != b.size) return false;
  return a.size == 0 || (a.start == b.start && (a.size == 1 || a.step == b.step));
}

bool EqualViews(const ViewObject& a, const ViewObject& b) {
  if (a.which != b.which || a.which == 'v' || a.source->entries().size() != b.source->entries().size()) {
    return false;
  }
  if (a.which == 'i') return EqualEntries(*a.source, *b.source);
  return std::all_of(a.source->entries().begin(), a.source->entries().end(),
                     [&](const DictObject::Entry& entry) { return b.source->Find(entry.first) != nullptr; });
}

}  // namespace

Value Value::Bool(bool b) {
  Value value(Kind::kBool);
  value.int_ = b ? 1 : 0;
  return value;
}

Value Value::Integer(Int i) {
  Value value(Kind::kInt);
  value.int_ = i;
  return value;
}

Value Value::Float(double d) {
  Value value(Kind::kFloat);
  value.float_ = d;
  return value;
}

Value Value::String(std::string text, bool markup) {
  if (text.size() > kMaxTextBytes) Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  auto object = std::make_shared<StringObject>();
  object->length = CodePointCount(text);
  object->weight += text.size();
  object->text = std::move(text);
  Value value(Kind::kString, std::move(object));
  value.markup_ = markup;
  return value;
}

Value Value::List(std::vector<Value> items) {
  return Value(Kind::kList, MakeSequence(std::move(items)));
}
Value Value::Tuple(std::vector<Value> items) {
  return Value(Kind::kTuple, MakeSequence(std::move(items)));
}

Value Value::Group(Value key, Value list) {
  auto sequence = MakeSequence({std::move(key), std::move(list)});
  sequence->is_group = true;
  return Value(Kind::kTuple, std::move(sequence));
}

Value Value::Dict(std::shared_ptr<const DictObject> dict) {
  return Value(Kind::kDict, std::const_pointer_cast<DictObject>(std::move(dict)));
}

Value Value::Range(Int start, Int stop, Int step) {
  auto range = std::make_shared<RangeObject>();
  range->start = start;
  range->stop = stop;
  range->step = step;
  const Int span = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  const Int size = span <= 0 ? 0 : (span - 1) / stride + 1;
  range->size = size > (Int{1} << 62) ? size_t{1} << 62 : static_cast<size_t>(size);
  return Value(Kind::kRange, std::move(range));
}

Value Value::Iterator(std::shared_ptr<IteratorObject> iterator) {
  if (iterator->depth > kMaxValueDepth)
    Fail(ErrorKind::kLimit, "an iterator is nested deeper than {}", kMaxValueDepth);
  return Value(Kind::kIterator, std::move(iterator));
}

Value Value::Host(std::shared_ptr<HostObject> object) {
  return Value(Kind::kHost, std::move(object));
}

Value Value::View(const Value& dict, char which) {
  auto view = std::make_shared<ViewObject>();
  view->source = std::static_pointer_cast<const DictObject>(dict.object());
  view->which = which;
  Absorb(view.get(), dict);
  return Value(Kind::kView, std::move(view));
}

Value Value::Undefined(std::string message, ErrorKind kind) {
  auto object = std::make_shared<UndefinedObject>();
  object->message = std::move(message);
  object->kind = kind;
  return Value(Kind::kUndefined, std::move(object));
}

Value Value::FromJson(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return Bool(json.get<bool>());
    case Json::value_t::number_integer:
      return Integer(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      return Integer(json.get<uint64_t>());
    case Json::value_t::number_float:
      return Float(json.get<double>());
    case Json::value_t::string:
      return String(ToValidUtf8(json.get_ref<const std::string&>()));
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(FromJson(item));
      return List(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<DictObject>();
      for (const auto& [key, item] : json.items()) dict->Set(String(ToValidUtf8(key)), FromJson(item));
      return Dict(std::move(dict));
    }
    default:
      return None();
  }
}

double Value::number() const {
  return kind_ == Kind::kFloat ? float_ : static_cast<double>(int_);
}
const std::string& Value::text() const {
  return static_cast<const StringObject&>(*object_).text;
}
size_t Value::text_length() const {
  return static_cast<const StringObject&>(*object_).length;
}
const std::vector<Value>& Value::items() const {
  return static_cast<const SequenceObject&>(*object_).items;
}
bool Value::is_group() const {
  return kind_ == Kind::kTuple && static_cast<const SequenceObject&>(*object_).is_group;
}
const DictObject& Value::dict() const {
  return static_cast<const DictObject&>(*object_);
}
const RangeObject& Value::range() const {
  return static_cast<const RangeObject&>(*object_);
}
const ViewObject& Value::view() const {
  return static_cast<const ViewObject&>(*object_);
}
IteratorObject& Value::iterator() const {
  return static_cast<IteratorObject&>(*object_);
}
HostObject& Value::host() const {
  return static_cast<HostObject&>(*object_);
}

std::optional<size_t> Value::Length() const {
  switch (kind_) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return text_length();
    case Kind::kList:
    case Kind::kTuple:
      return items().size();
    case Kind::kDict:
      return dict().entries().size();
    case Kind::kRange:
      return range().size;
    case Kind::kView:
      return view().source->entries().size();
    case Kind::kHost:
      return host().Length();
    default:
      return std::nullopt;
  }
}

bool Value::Truthy() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return int_ != 0;
    case Kind::kFloat:
      return float_ != 0;
    default:
      return Length().value_or(1) != 0;
  }
}

bool Value::SameAs(const Value& other) const {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kInt:
      return int_ == other.int_;
    default:
      return object_ != nullptr && object_ == other.object_;
  }
}

const char* Value::TypeName() const {
  switch (kind_) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return markup_ ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kView:
      return view().which == 'k' ? "dict_keys" : view().which == 'v' ? "dict_values" : "dict_items";
    case Kind::kIterator:
      return "generator";
    case Kind::kHost:
      return host().TypeName();
  }
  return "";
}

std::string Value::Str() const {
  if (kind_ == Kind::kString) return text();
  if (kind_ == Kind::kUndefined) return "";
  return Repr();
}

std::string Value::Repr() const {
  std::string out;
  AppendRepr(&out, *this);
  return out;
}

void Value::FailUndefined() const {
  if (!object_) Fail(ErrorKind::kUndefined, "an undefined value was used");
  const auto& undefined = static_cast<const UndefinedObject&>(*object_);
  throw TemplateError(undefined.kind, undefined.message);
}

const Value* CallArgs::Named(std::string_view name) const {
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::optional<size_t> DictObject::IndexOf(const Value& key) const {
  const auto [begin, end] = index_.equal_range(Hash(key));
  for (auto it = begin; it != end; ++it) {
    if (Equal(entries_[it->second].first, key)) return it->second;
  }
  return std::nullopt;
}

const Value* DictObject::Find(const Value& key) const {
  const auto index = IndexOf(key);
  return index ? &entries_[*index].second : nullptr;
}

const Value* DictObject::Find(std::string_view key) const {
  const auto [begin, end] = index_.equal_range(std::hash<std::string_view>{}(key));
  for (auto it = begin; it != end; ++it) {
    const Value& found = entries_[it->second].first;
    if (found.is_string() && found.text() == key) return &entries_[it->second].second;
  }
  return nullptr;
}

void DictObject::Set(const Value& key, Value value) {
  Absorb(this, key);
  Absorb(this, value);
  if (const auto index = IndexOf(key)) {
    entries_[*index].second = std::move(value);
    return;
  }
  index_.emplace(Hash(key), entries_.size());
  entries_.emplace_back(key, std::move(value));
}

Value ViewObject::At(size_t i) const {
  const auto& [key, value] = source->entries()[i];
  return which == 'k' ? key : which == 'v' ? value : Value::Tuple({key, value});
}

std::string HostObject::Repr() const {
  return std::string("<") + TypeName() + ">";
}
std::optional<Value> HostObject::Attribute(Runtime&, std::string_view) {
  return std::nullopt;
}
Value HostObject::Call(Runtime&, const CallArgs&) {
  Fail(ErrorKind::kType, "'{}' object is not callable", TypeName());
}

bool Equal(const Value& a, const Value& b) {
  if (a.object() != nullptr && a.object() == b.object() && !a.is_undefined()) return true;
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
    if (a.is(Kind::kFloat) && b.is(Kind::kFloat)) return a.number() == b.number();
    return a.is(Kind::kFloat) ? EqualIntFloat(b.integer(), a.number())
                              : EqualIntFloat(a.integer(), b.number());
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return a.items().size() == b.items().size() &&
             std::equal(a.items().begin(), a.items().end(), b.items().begin(), Equal);
    case Kind::kDict:
      return EqualEntries(a.dict(), b.dict());
    case Kind::kRange:
      return EqualRanges(a.range(), b.range());
    case Kind::kView:
      return EqualViews(a.view(), b.view());
    default:
      return false;  // identity was checked above
  }
}

size_t Hash(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return static_cast<size_t>(value.kind());
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<int64_t>{}(static_cast<int64_t>(value.integer()));
    case Kind::kFloat: {
      const double d = value.number();
      if (d == std::floor(d) && std::abs(d) < 0x1p126) return Hash(Value::Integer(static_cast<Int>(d)));
      return std::hash<double>{}(d);
    }
    case Kind::kString:
      return std::hash<std::string_view>{}(value.text());
    case Kind::kTuple: {
      size_t hash = 0x345678;
      for (const Value& item : value.items()) hash = hash * 1000003 ^ Hash(item);
      return hash;
    }
    case Kind::kRange:
      return value.range().size;
    case Kind::kIterator:
    case Kind::kHost:
      return std::hash<const void*>{}(value.object().get());
    default:
      Fail(ErrorKind::kType, "unhashable type: '{}'", value.TypeName());
  }
}

}  // namespace thimble::jinja

// Attributes, items, slices and iteration.
#include <algorithm>
#include <array>

#include "text/jinja_ops.h"

namespace thimble::jinja {
namespace {

// The attributes that every Python object has. The sandbox hides them.
bool IsObjectAttribute(std::string_view name) {
  constexpr std::array kNames = {
      "__class__",   "__delattr__",  "__dir__",           "__doc__",          "__eq__",
      "__format__",  "__ge__",       "__getattribute__",  "__getstate__",     "__gt__",
      "__hash__",    "__init__",     "__init_subclass__", "__le__",           "__lt__",
      "__ne__",      "__new__",      "__reduce__",        "__reduce_ex__",    "__repr__",
      "__setattr__", "__sizeof__",   "__str__",           "__subclasshook__", "__len__",
      "__iter__",    "__contains__", "__getitem__"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// What the immutable sandbox refuses.
bool IsMutator(const Value& object, std::string_view name) {
  constexpr std::array kList = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  constexpr std::array kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  if (object.is(Kind::kList)) return std::find(kList.begin(), kList.end(), name) != kList.end();
  if (object.is(Kind::kDict)) return std::find(kDict.begin(), kDict.end(), name) != kDict.end();
  return false;
}

Value Unsafe(const Value& object, std::string_view name) {
  return Value::Undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe", name, object.TypeName()),
      ErrorKind::kSecurity);
}

std::optional<Value> Attribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (IsObjectAttribute(name) || IsMutator(object, name)) return Unsafe(object, name);
  if (object.is(Kind::kHost)) {
    auto found = object.host().Attribute(runtime, name);
    if (found && name[0] == '_') return Unsafe(object, name);
    return found;
  }
  if (object.is_group() && name == "grouper") return object.items()[0];
  if (object.is_group() && name == "list") return object.items()[1];
  return FindMethod(object, name);
}

Value SequenceAt(Runtime& runtime, const Value& object, size_t i) {
  switch (object.kind()) {
    case Kind::kString: {
      const std::string& text = object.text();
      if (object.text_length() == text.size()) return runtime.Text(std::string(1, text[i]), object.markup());
      runtime.Charge(text.size() / 16);
      const size_t begin = ByteOffset(text, i);
      size_t end = begin;
      NextCodePoint(text, &end);
      return runtime.Text(text.substr(begin, end - begin), object.markup());
    }
    case Kind::kRange:
      return Value::Integer(object.range().At(i));
    default:
      return object.items()[i];
  }
}

// object[key]; nullopt where Python raises TypeError or LookupError.
std::optional<Value> Item(Runtime& runtime, const Value& object, const Value& key) {
  switch (object.kind()) {
    case Kind::kUndefined:
      object.FailUndefined();
    case Kind::kDict: {
      runtime.Charge(key.weight() / 16);
      const Value* found = nullptr;
      try {
        found = object.dict().Find(key);
      } catch (const TemplateError& error) {
        if (error.kind != ErrorKind::kType) throw;
      }
      return found != nullptr ? std::optional(*found) : std::nullopt;
    }
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange: {
      if (!key.is_integral()) return std::nullopt;
      const Int size = static_cast<Int>(*object.Length());
      const Int index = key.integer() < 0 ? key.integer() + size : key.integer();
      if (index < 0 || index >= size) return std::nullopt;
      return SequenceAt(runtime, object, static_cast<size_t>(index));
    }
    default:
      return std::nullopt;
  }
}

Value Missing(const Value& object, const Value& key) {
  const std::string type = object.is_none() ? "None" : std::string(object.TypeName()) + " object";
  if (!key.is_string()) {
    return Value::Undefined(
        fmt::format("{} has no element {}", type, key.weight() < 256 ? key.Repr() : "here"));
  }
  return Value::Undefined(fmt::format("'{}' has no attribute {}", type, QuotedRepr(key.text())));
}

// The positions that a slice selects, as Python's slice.indices.
struct SliceRange {
  Int start, step;
  size_t count;
};

SliceRange ResolveSlice(Int length, const Value& start, const Value& stop, const Value& step) {
  const auto bound = [](const Value& value) {
    if (value.is_undefined()) value.FailUndefined();
    if (!value.is_integral()) Fail(ErrorKind::kType, "slice indices must be integers or None");
    return value.integer();
  };
  const Int stride = step.is_none() ? 1 : bound(step);
  if (stride == 0) Fail(ErrorKind::kValue, "slice step cannot be zero");
  const Int low = stride < 0 ? -1 : 0, high = stride < 0 ? length - 1 : length;
  const auto clamp = [&](const Value& value, Int fallback) {
    if (value.is_none()) return fallback;
    const Int i = bound(value);
    return std::clamp(i < 0 ? std::max<Int>(i, -length - 1) + length : i, low, high);
  };
  const Int from = clamp(start, stride < 0 ? high : low);
  const Int to = clamp(stop, stride < 0 ? low : high);
  const Int span = stride < 0 ? from - to : to - from;
  // A stride beyond the length selects one item; clamping keeps the arithmetic small.
  const Int reach = std::clamp<Int>(stride, -length - 1, length + 1);
  const Int width = reach < 0 ? -reach : reach;
  return {from, reach, span <= 0 ? 0 : static_cast<size_t>((span - 1) / width + 1)};
}

struct SequenceIterator : IteratorObject {
  SequenceIterator(Value sequence, bool backward)
      : source(std::move(sequence)), size(*source.Length()), reversed(backward) {
    Absorb(this, source);
  }
  bool Next(Runtime& runtime, Value* out) override {
    if (position >= size) return false;
    runtime.Charge();
    const size_t i = reversed ? size - 1 - position : position;
    ++position;
    if (source.is(Kind::kDict)) {
      *out = source.dict().entries()[i].first;
    } else if (source.is(Kind::kView)) {
      *out = source.view().At(i);
    } else {
      *out = SequenceAt(runtime, source, i);
    }
    return true;
  }
  Value source;
  size_t size, position = 0;
  bool reversed;
};

// Forward over text, in one pass.
struct TextIterator : IteratorObject {
  explicit TextIterator(Value text) : source(std::move(text)) { Absorb(this, source); }
  bool Next(Runtime& runtime, Value* out) override {
    const std::string& text = source.text();
    if (position >= text.size()) return false;
    const size_t begin = position;
    NextCodePoint(text, &position);
    *out = runtime.Text(text.substr(begin, position - begin));
    return true;
  }
  Value source;
  size_t position = 0;
};

struct EmptyIterator : IteratorObject {
  bool Next(Runtime&, Value*) override { return false; }
};

struct FunctionIterator : IteratorObject {
  bool Next(Runtime& runtime, Value* out) override {
    if (finished) return false;
    const Runtime::Nest nest(runtime);
    runtime.Charge();
    finished = !next(runtime, out);
    return !finished;
  }
  std::function<bool(Runtime&, Value*)> next;
  bool finished = false;
};

}  // namespace

Value GetAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is_undefined()) object.FailUndefined();
  if (auto found = Attribute(runtime, object, name)) return *std::move(found);
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.dict().Find(name)) return *found;
  }
  return Missing(object, Value::String(std::string(name)));
}

Value GetAttributeOnly(Runtime& runtime, const Value& object, const std::string& name) {
  if (auto found = Attribute(runtime, object, name)) return *std::move(found);
  return Missing(object, Value::String(name));
}

Value GetItem(Runtime& runtime, const Value& object, const Value& key) {
  if (auto found = Item(runtime, object, key)) return *std::move(found);
  if (key.is_string() && !key.text().empty()) {
    if (auto found = Attribute(runtime, object, key.text())) return *std::move(found);
  }
  return Missing(object, key);
}

Value GetSlice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  if (object.is_undefined()) object.FailUndefined();
  if (!object.is_string() && !object.is_sequence() && !object.is(Kind::kRange)) {
    Fail(ErrorKind::kType, "'{}' object cannot be sliced", object.TypeName());
  }
  const SliceRange slice = ResolveSlice(static_cast<Int>(*object.Length()), start, stop, step);
  if (object.is(Kind::kRange)) {
    const RangeObject& range = object.range();
    const Int stride = range.step * slice.step;
    const Int first = range.start + slice.start * range.step;
    return Value::Range(first, first + static_cast<Int>(slice.count) * stride, stride);
  }
  const auto index = [&](size_t i) {
    return static_cast<size_t>(slice.start + static_cast<Int>(i) * slice.step);
  };
  if (object.is_string()) {
    const std::string& text = object.text();
    runtime.Charge(text.size() / 16);
    if (slice.step == 1) {
      const bool ascii = object.text_length() == text.size();
      const size_t first = static_cast<size_t>(slice.start);
      const size_t begin = ascii ? first : ByteOffset(text, first);
      const std::string_view tail = std::string_view(text).substr(begin);
      return runtime.Text(std::string(tail.substr(0, ascii ? slice.count : ByteOffset(tail, slice.count))),
                          object.markup());
    }
    runtime.Charge(text.size());
    const auto points = CodePoints(text);
    std::string out;
    for (size_t i = 0; i < slice.count; ++i) AppendUtf8(&out, points[index(i)]);
    return runtime.Text(std::move(out), object.markup());
  }
  std::vector<Value> items;
  items.reserve(slice.count);
  for (size_t i = 0; i < slice.count; ++i) items.push_back(object.items()[index(i)]);
  return object.is(Kind::kList) ? runtime.List(std::move(items)) : runtime.Tuple(std::move(items));
}

bool IsIterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kHost:
      return false;
    default:
      return true;
  }
}

std::shared_ptr<IteratorObject> Iterate(Runtime&, const Value& value) {
  if (!IsIterable(value)) Fail(ErrorKind::kType, "'{}' object is not iterable", value.TypeName());
  if (value.is(Kind::kIterator)) return std::static_pointer_cast<IteratorObject>(value.object());
  if (value.is_undefined()) return std::make_shared<EmptyIterator>();
  if (value.is_string()) return std::make_shared<TextIterator>(value);
  return std::make_shared<SequenceIterator>(value, false);
}

std::shared_ptr<IteratorObject> IterateReversed(const Value& value) {
  if (value.is_undefined()) return std::make_shared<EmptyIterator>();
  if (!IsIterable(value) || value.is(Kind::kIterator)) return nullptr;
  return std::make_shared<SequenceIterator>(value, true);
}

std::vector<Value> Collect(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  const auto iterator = Iterate(runtime, value);
  for (Value item; iterator->Next(runtime, &item);) {
    runtime.Charge(kItemSteps);
    items.push_back(item);
  }
  return items;
}

Value Generator(std::initializer_list<Value> held, std::function<bool(Runtime&, Value*)> next) {
  auto iterator = std::make_shared<FunctionIterator>();
  for (const Value& value : held) Absorb(iterator.get(), value);
  iterator->next = std::move(next);
  return Value::Iterator(std::move(iterator));
}

}  // namespace thimble::jinja

// The values of the template language: Python's, as far as chat templates can see them. Values are immutable
// but for host objects (namespaces, loops, iterators) and are shared by reference.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/jinja_error.h"
#include "text/jinja_text.h"

namespace thimble::jinja {

class Runtime;
class Value;

// Bounds that hold for every value, so that walking one cannot recurse too deep or take for ever.
inline constexpr int kMaxValueDepth = 200;                  // nesting of lists, tuples, dicts and iterators
inline constexpr size_t kMaxValueWeight = size_t{1} << 28;  // about the bytes of its repr
inline constexpr size_t kMaxTextBytes = size_t{1} << 24;    // of one string, and of the whole output

struct Object {
  virtual ~Object() = default;
  int depth = 0;
  size_t weight = 8;
};

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,
  kIterator,
  kHost,
};

struct StringObject;
struct SequenceObject;
class DictObject;
struct RangeObject;
struct ViewObject;
struct IteratorObject;
struct HostObject;

class Value {
 public:
  Value() = default;  // undefined, without a name
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool b);
  static Value Integer(Int i);
  static Value Float(double d);
  static Value String(std::string text, bool markup = false);  // `text` must be UTF-8
  static Value List(std::vector<Value> items);
  static Value Tuple(std::vector<Value> items);
  static Value Group(Value key, Value list);  // what groupby makes: a tuple with the names grouper and list
  static Value Dict(std::shared_ptr<const DictObject> dict);
  static Value Range(Int start, Int stop, Int step);
  static Value Iterator(std::shared_ptr<IteratorObject> iterator);
  static Value Host(std::shared_ptr<HostObject> object);
  static Value View(const Value& dict, char which);  // 'k'eys, 'v'alues, 'i'tems
  // Undefined with the error that any use of it raises.
  static Value Undefined(std::string message, ErrorKind kind = ErrorKind::kUndefined);
  static Value FromJson(const Json& json);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }

  Int integer() const { return int_; }      // kInt, kBool
  double number() const;                    // any number
  const std::string& text() const;          // kString
  size_t text_length() const;               // kString, code points
  bool markup() const { return markup_; }   // kString marked safe for HTML
  const std::vector<Value>& items() const;  // kList, kTuple
  bool is_group() const;
  const DictObject& dict() const;
  const RangeObject& range() const;
  const ViewObject& view() const;
  IteratorObject& iterator() const;
  HostObject& host() const;
  const std::shared_ptr<Object>& object() const { return object_; }

  int depth() const { return object_ ? object_->depth : 0; }
  size_t weight() const { return object_ ? object_->weight : 8; }

  bool Truthy() const;
  bool SameAs(const Value& other) const;  // Python's `is`, as far as it can be told
  const char* TypeName() const;           // type(x).__name__
  std::string Str() const;                // str(x)
  std::string Repr() const;               // repr(x)
  // Raises the error of an undefined value.
  [[noreturn]] void FailUndefined() const;
  // len(x); nullopt where Python raises TypeError.
  std::optional<size_t> Length() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}

  Kind kind_ = Kind::kUndefined;
  bool markup_ = false;
  union {
    Int int_ = 0;
    double float_;
  };
  std::shared_ptr<Object> object_;
};

// Arguments of a call, already evaluated.
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  const Value* Named(std::string_view name) const;  // null if absent
};

struct StringObject : Object {
  std::string text;
  size_t length = 0;
};

struct UndefinedObject : Object {
  std::string message;
  ErrorKind kind = ErrorKind::kUndefined;
};

struct SequenceObject : Object {
  std::vector<Value> items;
  bool is_group = false;
};

// Keeps insertion order; 1, 1.0 and true are one key, as in Python.
class DictObject : public Object {
 public:
  using Entry = std::pair<Value, Value>;
  const std::vector<Entry>& entries() const { return entries_; }
  const Value* Find(const Value& key) const;  // throws kType for an unhashable key
  const Value* Find(std::string_view key) const;
  void Set(const Value& key, Value value);

 private:
  std::optional<size_t> IndexOf(const Value& key) const;
  std::vector<Entry> entries_;
  std::unordered_multimap<size_t, size_t> index_;  // hash -> entry
};

struct RangeObject : Object {
  Int start = 0, stop = 0, step = 1;
  size_t size = 0;
  Int At(size_t i) const { return start + static_cast<Int>(i) * step; }
};

struct ViewObject : Object {
  std::shared_ptr<const DictObject> source;
  char which = 'k';
  Value At(size_t i) const;
};

// A Python iterator or generator: read once, from front to back.
struct IteratorObject : Object {
  virtual bool Next(Runtime& runtime, Value* out) = 0;
};

// Objects with behaviour of their own: functions, macros, namespaces, loops.
struct HostObject : Object {
  virtual const char* TypeName() const = 0;
  virtual std::string Repr() const;
  virtual std::optional<Value> Attribute(Runtime& runtime, std::string_view name);
  virtual bool IsCallable() const { return false; }
  virtual Value Call(Runtime& runtime, const CallArgs& args);
  virtual std::optional<size_t> Length() const { return std::nullopt; }
};

// Counts `child` into the depth and weight of the object that holds it, and checks both bounds.
void Absorb(Object* parent, const Value& child);

bool Equal(const Value& a, const Value& b);
// Throws kType for what Python cannot hash.
size_t Hash(const Value& value);

struct ValueHash {
  size_t operator()(const Value& value) const { return Hash(value); }
};
struct ValueEqual {
  bool operator()(const Value& a, const Value& b) const { return Equal(a, b); }
};

}  // namespace thimble::jinja

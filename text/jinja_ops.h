// Python's operators, subscripts and iteration on template values, with the sandbox's rules.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_runtime.h"

namespace thimble::jinja {

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

Value Binary(Runtime& runtime, BinaryOp op, const Value& a, const Value& b);
Value Negate(const Value& value);
Value Plus(const Value& value);
bool Compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b);
// Python's a < b, for sorting.
bool Less(Runtime& runtime, const Value& a, const Value& b);

// environment.getattr: attributes (methods) first, then items. Undefined if there is neither.
Value GetAttribute(Runtime& runtime, const Value& object, std::string_view name);
// The `attr` filter: no items.
Value GetAttributeOnly(Runtime& runtime, const Value& object, const std::string& name);
// environment.getitem: items first.
Value GetItem(Runtime& runtime, const Value& object, const Value& key);
// object[start:stop:step]; absent bounds are None.
Value GetSlice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
               const Value& step);

Value CallValue(Runtime& runtime, const Value& callee, const CallArgs& args);

// iter(value); throws kType where Python does.
std::shared_ptr<IteratorObject> Iterate(Runtime& runtime, const Value& value);
// An iterator over reversed(value); nullptr where Python raises TypeError.
std::shared_ptr<IteratorObject> IterateReversed(const Value& value);
bool IsIterable(const Value& value);
std::vector<Value> Collect(Runtime& runtime, const Value& value);
// A generator that computes its items on demand. `held` are the values that `next` keeps.
Value Generator(std::initializer_list<Value> held, std::function<bool(Runtime&, Value*)> next);

// Built-in methods of str, list, tuple and dict; nullopt if the type has no such attribute.
std::optional<Value> FindMethod(const Value& object, std::string_view name);

// `left % right` on strings (jinja_format.cc).
Value PercentFormat(Runtime& runtime, const Value& format, const Value& args);
// str.format with the sandbox's field lookup.
Value BraceFormat(Runtime& runtime, const Value& format, const CallArgs& args);

}  // namespace thimble::jinja

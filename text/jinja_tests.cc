// The tests of `value is test`.
#include <unordered_map>

#include "text/jinja_args.h"
#include "text/jinja_filters.h"

namespace thimble::jinja {
namespace {

template <bool (*kTest)(const Value&)>
bool Unary(Runtime&, const Value& value, const CallArgs& call) {
  const BoundArgs args("this test", call, {});
  return kTest(value);
}

template <CompareOp kOp>
bool Comparison(Runtime& runtime, const Value& value, const CallArgs& call) {
  const BoundArgs args("this test", call, {"other"}, 1);
  return Compare(runtime, kOp, value, args[0]);
}

bool HasRemainder(Runtime& runtime, const Value& value, const Value& divisor, Int remainder) {
  return Equal(Binary(runtime, BinaryOp::kMod, value, divisor), Value::Integer(remainder));
}

bool IsOdd(Runtime& runtime, const Value& value, const CallArgs& call) {
  const BoundArgs args("odd", call, {});
  return HasRemainder(runtime, value, Value::Integer(2), 1);
}

bool IsEven(Runtime& runtime, const Value& value, const CallArgs& call) {
  const BoundArgs args("even", call, {});
  return HasRemainder(runtime, value, Value::Integer(2), 0);
}

bool IsDivisibleBy(Runtime& runtime, const Value& value, const CallArgs& call) {
  const BoundArgs args("divisibleby", call, {"num"}, 1);
  return HasRemainder(runtime, value, args[0], 0);
}

bool IsSameAs(Runtime&, const Value& value, const CallArgs& call) {
  const BoundArgs args("sameas", call, {"other"}, 1);
  return value.SameAs(args[0]);
}

bool IsFilterName(const Value& value) {
  return value.is_string() && FindFilter(value.text()) != nullptr;
}
bool IsTestName(const Value& value) {
  return value.is_string() && FindTest(value.text()) != nullptr;
}
bool IsDefined(const Value& value) {
  return !value.is_undefined();
}
bool IsUndefined(const Value& value) {
  return value.is_undefined();
}
bool IsNone(const Value& value) {
  return value.is_none();
}
bool IsBoolean(const Value& value) {
  return value.is(Kind::kBool);
}
bool IsFalse(const Value& value) {
  return value.is(Kind::kBool) && value.integer() == 0;
}
bool IsTrue(const Value& value) {
  return value.is(Kind::kBool) && value.integer() != 0;
}
bool IsInteger(const Value& value) {
  return value.is(Kind::kInt);
}
bool IsFloat(const Value& value) {
  return value.is(Kind::kFloat);
}
bool IsNumber(const Value& value) {
  return value.is_number();
}
bool IsString(const Value& value) {
  return value.is_string();
}
bool IsMapping(const Value& value) {
  return value.is(Kind::kDict);
}
bool IsEscaped(const Value& value) {
  return value.is_string() && value.markup();
}
bool IsLower(const Value& value) {
  return IsLowerText(value.Str());
}
bool IsUpper(const Value& value) {
  return IsUpperText(value.Str());
}
bool IsCallable(const Value& value) {
  // Undefined has a __call__, which fails.
  return value.is_undefined() || (value.is(Kind::kHost) && value.host().IsCallable());
}
bool IsSequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is(Kind::kDict) ||
         value.is(Kind::kRange);
}

}  // namespace

Test FindTest(std::string_view name) {
  static const std::unordered_map<std::string_view, Test> table = {
      {"odd", IsOdd},
      {"even", IsEven},
      {"divisibleby", IsDivisibleBy},
      {"defined", Unary<IsDefined>},
      {"undefined", Unary<IsUndefined>},
      {"filter", Unary<IsFilterName>},
      {"test", Unary<IsTestName>},
      {"none", Unary<IsNone>},
      {"boolean", Unary<IsBoolean>},
      {"false", Unary<IsFalse>},
      {"true", Unary<IsTrue>},
      {"integer", Unary<IsInteger>},
      {"float", Unary<IsFloat>},
      {"lower", Unary<IsLower>},
      {"upper", Unary<IsUpper>},
      {"string", Unary<IsString>},
      {"mapping", Unary<IsMapping>},
      {"number", Unary<IsNumber>},
      {"sequence", Unary<IsSequence>},
      {"iterable", Unary<IsIterable>},
      {"callable", Unary<IsCallable>},
      {"sameas", IsSameAs},
      {"escaped", Unary<IsEscaped>},
      {"in", Comparison<CompareOp::kIn>},
      {"==", Comparison<CompareOp::kEq>},
      {"eq", Comparison<CompareOp::kEq>},
      {"equalto", Comparison<CompareOp::kEq>},
      {"!=", Comparison<CompareOp::kNe>},
      {"ne", Comparison<CompareOp::kNe>},
      {">", Comparison<CompareOp::kGt>},
      {"gt", Comparison<CompareOp::kGt>},
      {"greaterthan", Comparison<CompareOp::kGt>},
      {">=", Comparison<CompareOp::kGe>},
      {"ge", Comparison<CompareOp::kGe>},
      {"<", Comparison<CompareOp::kLt>},
      {"lt", Comparison<CompareOp::kLt>},
      {"lessthan", Comparison<CompareOp::kLt>},
      {"<=", Comparison<CompareOp::kLe>},
      {"le", Comparison<CompareOp::kLe>},
  };
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

bool ApplyTest(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args) {
  const Test test = FindTest(name);
  if (test == nullptr) Fail(ErrorKind::kRuntime, "there is no test named '{}'", name);
  return test(runtime, input, args);
}

}  // namespace thimble::jinja

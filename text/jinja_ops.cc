#include "text/jinja_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace thimble::jinja {
namespace {

constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void FailOperands(BinaryOp op, const Value& a, const Value& b) {
  if (a.is_undefined()) a.FailUndefined();
  if (b.is_undefined()) b.FailUndefined();
  Fail(ErrorKind::kType, "unsupported operand type(s) for {}: '{}' and '{}'", kSymbols[static_cast<int>(op)],
       a.TypeName(), b.TypeName());
}

[[noreturn]] void FailTooLarge() {
  Fail(ErrorKind::kLimit, "integers beyond 127 bits are not supported");
}

Int FloorDivide(Int a, Int b) {
  const Int quotient = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

double FloorModulo(double a, double b) {
  const double remainder = std::fmod(a, b);
  if (remainder == 0) return std::copysign(0.0, b);
  return (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

// Python's float floor division, which rounds the exact quotient, not a / b.
double FloorQuotient(double a, double b) {
  const double quotient = (a - FloorModulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

Value IntPower(Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) Fail(ErrorKind::kOverflow, "0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) FailTooLarge();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) FailTooLarge();
  }
  return Value::Integer(result);
}

Value IntArithmetic(BinaryOp op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) FailTooLarge();
      return Value::Integer(result);
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) FailTooLarge();
      return Value::Integer(result);
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) FailTooLarge();
      return Value::Integer(result);
    case BinaryOp::kPow:
      return IntPower(a, b);
    default:
      break;
  }
  if (b == 0) Fail(ErrorKind::kOverflow, "division by zero");
  if (op == BinaryOp::kDiv) return Value::Float(static_cast<double>(a) / static_cast<double>(b));
  // The only quotient that overflows.
  if (b == -1) return op == BinaryOp::kMod ? Value::Integer(0) : IntArithmetic(BinaryOp::kSub, 0, a);
  const Int quotient = FloorDivide(a, b);
  return Value::Integer(op == BinaryOp::kFloorDiv ? quotient : a - quotient * b);
}

double FloatPower(double a, double b) {
  if (a == 0 && b < 0) Fail(ErrorKind::kOverflow, "0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
    Fail(ErrorKind::kValue, "complex numbers are not supported");
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    Fail(ErrorKind::kOverflow, "the result of ** is too large for a float");
  }
  return result;
}

Value FloatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    case BinaryOp::kPow:
      return Value::Float(FloatPower(a, b));
    default:
      break;
  }
  if (b == 0) Fail(ErrorKind::kOverflow, "float division by zero");
  if (op == BinaryOp::kDiv) return Value::Float(a / b);
  return Value::Float(op == BinaryOp::kMod ? FloorModulo(a, b) : FloorQuotient(a, b));
}

Value Repeat(Runtime& runtime, const Value& sequence, Int times) {
  const size_t count = times <= 0 ? 0 : static_cast<size_t>(std::min<Int>(times, kMaxTextBytes + 1));
  if (sequence.is_string()) {
    const std::string& text = sequence.text();
    if (text.size() * count > kMaxTextBytes)
      Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
    std::string out;
    out.reserve(text.size() * count);
    for (size_t i = 0; i < (text.empty() ? 0 : count); ++i) out += text;
    return runtime.Text(std::move(out), sequence.markup());
  }
  const auto& items = sequence.items();
  runtime.Charge(items.size() * count * kItemSteps);
  std::vector<Value> out;
  for (size_t i = 0; i < (items.empty() ? 0 : count); ++i) out.insert(out.end(), items.begin(), items.end());
  return sequence.is(Kind::kList) ? runtime.List(std::move(out)) : runtime.Tuple(std::move(out));
}

Value Concatenate(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string()) {
    if (a.markup() == b.markup()) return runtime.Text(a.text() + b.text(), a.markup());
    return runtime.Text(
        (a.markup() ? a.text() : EscapeHtml(a.text())) + (b.markup() ? b.text() : EscapeHtml(b.text())),
        true);
  }
  std::vector<Value> items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return a.is(Kind::kList) ? runtime.List(std::move(items)) : runtime.Tuple(std::move(items));
}

bool IsRepeatable(const Value& value) {
  return value.is_string() || value.is_sequence();
}

// -1, 0, 1; or nullopt if one is NaN.
std::optional<int> OrderNumbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  const double x = a.number(), y = b.number();
  if (std::isnan(x) || std::isnan(y)) return std::nullopt;
  if (x != y || (a.is(Kind::kFloat) && b.is(Kind::kFloat)) || std::isinf(x)) return x < y ? -1 : x > y;
  // Equal after rounding to double: compare as integers (the float is integral at this size or the int is
  // exact).
  if (std::abs(x) < 0x1p53) return 0;
  if (std::abs(x) >= 0x1p126) return 0;
  const Int i = a.is_integral() ? a.integer() : static_cast<Int>(x);
  const Int j = b.is_integral() ? b.integer() : static_cast<Int>(y);
  return i < j ? -1 : i > j;
}

constexpr const char* kCompareSymbols[] = {"==", "!=", "<", "<=", ">", ">="};

bool Decide(CompareOp op, int order) {
  switch (op) {
    case CompareOp::kLt:
      return order < 0;
    case CompareOp::kLe:
      return order <= 0;
    case CompareOp::kGt:
      return order > 0;
    default:
      return order >= 0;
  }
}

bool Ordered(CompareOp op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const auto order = OrderNumbers(a, b);
    return order && Decide(op, *order);
  }
  if (a.is_string() && b.is_string()) return Decide(op, a.text().compare(b.text()));  // UTF-8 keeps the order
  if (a.is_sequence() && a.kind() == b.kind()) {
    const auto& x = a.items();
    const auto& y = b.items();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!Equal(x[i], y[i])) return Ordered(op, x[i], y[i]);
    }
    return Decide(op, x.size() < y.size() ? -1 : x.size() > y.size());
  }
  if (a.is_undefined()) a.FailUndefined();
  if (b.is_undefined()) b.FailUndefined();
  Fail(ErrorKind::kType, "'{}' not supported between instances of '{}' and '{}'",
       kCompareSymbols[static_cast<int>(op)], a.TypeName(), b.TypeName());
}

bool Contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (item.is_undefined()) item.FailUndefined();
      if (!item.is_string()) {
        Fail(ErrorKind::kType, "'in <string>' requires string as left operand, not {}", item.TypeName());
      }
      runtime.ChargeSearch(container.text(), item.text());
      return container.text().find(item.text()) != std::string::npos;
    case Kind::kDict:
      runtime.Charge(item.weight() / 16);
      return container.dict().Find(item) != nullptr;
    case Kind::kView:
      runtime.Charge(item.weight() / 16);
      if (container.view().which == 'k') return container.view().source->Find(item) != nullptr;
      break;
    case Kind::kRange: {
      const RangeObject& range = container.range();
      if (!item.is_integral()) break;
      const Int offset = item.integer() - range.start;
      return offset % range.step == 0 && offset / range.step >= 0 &&
             offset / range.step < static_cast<Int>(range.size);
    }
    default:
      break;
  }
  const auto iterator = Iterate(runtime, container);
  for (Value element; iterator->Next(runtime, &element);) {
    runtime.Charge(1 + std::min(element.weight(), item.weight()) / 16);
    if (Equal(element, item)) return true;
  }
  return false;
}

}  // namespace

Value Binary(Runtime& runtime, BinaryOp op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return IntArithmetic(op, a.integer(), b.integer());
    return FloatArithmetic(op, a.number(), b.number());
  }
  if (op == BinaryOp::kMod && a.is_string()) return PercentFormat(runtime, a, b);
  if (op == BinaryOp::kAdd && a.kind() == b.kind() && IsRepeatable(a)) return Concatenate(runtime, a, b);
  if (op == BinaryOp::kMul && IsRepeatable(a) && b.is_integral()) return Repeat(runtime, a, b.integer());
  if (op == BinaryOp::kMul && a.is_integral() && IsRepeatable(b)) return Repeat(runtime, b, a.integer());
  FailOperands(op, a, b);
}

Value Negate(const Value& value) {
  if (value.is_integral()) return IntArithmetic(BinaryOp::kSub, 0, value.integer());
  if (value.is(Kind::kFloat)) return Value::Float(-value.number());
  if (value.is_undefined()) value.FailUndefined();
  Fail(ErrorKind::kType, "bad operand type for unary -: '{}'", value.TypeName());
}

Value Plus(const Value& value) {
  if (value.is_integral()) return Value::Integer(value.integer());
  if (value.is(Kind::kFloat)) return value;
  if (value.is_undefined()) value.FailUndefined();
  Fail(ErrorKind::kType, "bad operand type for unary +: '{}'", value.TypeName());
}

bool Compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b) {
  if (op == CompareOp::kIn) return Contains(runtime, b, a);
  if (op == CompareOp::kNotIn) return !Contains(runtime, b, a);
  runtime.Charge(std::min(a.weight(), b.weight()) / 16);
  if (op == CompareOp::kEq) return Equal(a, b);
  if (op == CompareOp::kNe) return !Equal(a, b);
  return Ordered(op, a, b);
}

bool Less(Runtime& runtime, const Value& a, const Value& b) {
  return Compare(runtime, CompareOp::kLt, a, b);
}

Value CallValue(Runtime& runtime, const Value& callee, const CallArgs& args) {
  if (callee.is_undefined()) callee.FailUndefined();
  if (!callee.is(Kind::kHost)) Fail(ErrorKind::kType, "'{}' object is not callable", callee.TypeName());
  const Runtime::Nest nest(runtime);
  return callee.host().Call(runtime, args);
}

}  // namespace thimble::jinja

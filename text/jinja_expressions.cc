#include "text/jinja_filters.h"
#include "text/jinja_interpreter.h"

namespace thimble::jinja {

const Value* Scope::Find(Runtime& runtime, std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent_.get()) {
    runtime.Charge(scope->variables_.size() / 16);
    for (const auto& [key, value] : scope->variables_) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(Runtime& runtime, std::string_view name, Value value) {
  runtime.Charge(1 + variables_.size() / 16);
  for (auto& [key, old] : variables_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  runtime.Charge((sizeof(variables_[0]) + name.size()) / 4);
  variables_.emplace_back(std::string(name), std::move(value));
}

Value Interpreter::Evaluate(const Expr& expr, const ScopePtr& scope) {
  runtime_.Charge();
  if (expr.kind == ExprKind::kConstant) return expr.constant;
  if (expr.kind == ExprKind::kName) return EvaluateName(expr, scope);
  const Runtime::Nest nest(runtime_);
  return EvaluateNested(expr, scope);
}

Value Interpreter::EvaluateNested(const Expr& expr, const ScopePtr& scope) {
  const auto item = [&](size_t i) { return Evaluate(*expr.items[i], scope); };
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
    case ExprKind::kNamespaceRef:
      return EvaluateName(expr, scope);
    case ExprKind::kList:
      return runtime_.List(EvaluateAll(expr.items, scope));
    case ExprKind::kTuple:
      return runtime_.Tuple(EvaluateAll(expr.items, scope));
    case ExprKind::kDict:
      return EvaluateDict(expr, scope);
    case ExprKind::kAttribute:
      return GetAttribute(runtime_, item(0), expr.name);
    case ExprKind::kItem: {
      const Value object = item(0);
      return GetItem(runtime_, object, item(1));
    }
    case ExprKind::kSlice:
      return EvaluateSlice(expr, scope);
    case ExprKind::kCall: {
      const Value callee = item(0);
      return CallValue(runtime_, callee, EvaluateArguments(expr.call, scope));
    }
    case ExprKind::kFilter: {
      const Value input = item(0);
      return ApplyFilter(runtime_, expr.name, input, EvaluateArguments(expr.call, scope));
    }
    case ExprKind::kTest: {
      const Value input = item(0);
      return Value::Bool(ApplyTest(runtime_, expr.name, input, EvaluateArguments(expr.call, scope)));
    }
    case ExprKind::kBinary: {
      const Value left = item(0);
      return Binary(runtime_, expr.binary, left, item(1));
    }
    case ExprKind::kConcat:
      return EvaluateConcat(expr, scope);
    case ExprKind::kCompare:
      return EvaluateCompare(expr, scope);
    case ExprKind::kAnd: {
      Value left = item(0);
      return left.Truthy() ? item(1) : left;
    }
    case ExprKind::kOr: {
      Value left = item(0);
      return left.Truthy() ? left : item(1);
    }
    case ExprKind::kNot:
      return Value::Bool(!item(0).Truthy());
    case ExprKind::kNegate:
      return Negate(item(0));
    case ExprKind::kPlus:
      return Plus(item(0));
    case ExprKind::kCondition:
      return EvaluateCondition(expr, scope);
  }
  return Value();
}

Value Interpreter::EvaluateName(const Expr& expr, const ScopePtr& scope) {
  if (const Value* found = scope->Find(runtime_, expr.name)) return *found;
  return Value::Undefined(fmt::format("'{}' is undefined", expr.name));
}

std::vector<Value> Interpreter::EvaluateAll(const std::vector<ExprPtr>& items, const ScopePtr& scope) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const auto& item : items) values.push_back(Evaluate(*item, scope));
  return values;
}

Value Interpreter::EvaluateDict(const Expr& expr, const ScopePtr& scope) {
  auto dict = std::make_shared<DictObject>();
  for (size_t i = 0; i < expr.items.size(); i += 2) {
    const Value key = Evaluate(*expr.items[i], scope);
    runtime_.Charge(kDictEntrySteps + key.weight() / 16);
    dict->Set(key, Evaluate(*expr.items[i + 1], scope));
  }
  return Value::Dict(std::move(dict));
}

Value Interpreter::EvaluateSlice(const Expr& expr, const ScopePtr& scope) {
  const auto bound = [&](size_t i) {
    return expr.items[i] ? Evaluate(*expr.items[i], scope) : Value::None();
  };
  const Value object = Evaluate(*expr.items[0], scope);
  const Value start = bound(1), stop = bound(2);
  return GetSlice(runtime_, object, start, stop, bound(3));
}

Value Interpreter::EvaluateConcat(const Expr& expr, const ScopePtr& scope) {
  std::string text;
  for (const auto& item : expr.items) Write(Evaluate(*item, scope).Str(), &text);
  return runtime_.Text(std::move(text));
}

Value Interpreter::EvaluateCompare(const Expr& expr, const ScopePtr& scope) {
  Value left = Evaluate(*expr.items[0], scope);
  for (size_t i = 0; i < expr.compares.size(); ++i) {
    Value right = Evaluate(*expr.items[i + 1], scope);
    if (!Compare(runtime_, expr.compares[i], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Interpreter::EvaluateCondition(const Expr& expr, const ScopePtr& scope) {
  if (Evaluate(*expr.items[1], scope).Truthy()) return Evaluate(*expr.items[0], scope);
  if (expr.items[2]) return Evaluate(*expr.items[2], scope);
  return Value::Undefined(fmt::format(
      "the inline if-expression on line {} evaluated to false and no else section was defined", expr.line));
}

CallArgs Interpreter::EvaluateArguments(const CallSyntax& call, const ScopePtr& scope) {
  CallArgs args;
  args.positional = EvaluateAll(call.positional, scope);
  if (call.star) {
    auto more = Collect(runtime_, Evaluate(*call.star, scope));
    args.positional.insert(args.positional.end(), std::make_move_iterator(more.begin()),
                           std::make_move_iterator(more.end()));
  }
  for (const auto& [name, value] : call.named) args.named.emplace_back(name, Evaluate(*value, scope));
  if (!call.double_star) return args;
  const Value mapping = Evaluate(*call.double_star, scope);
  if (mapping.is_undefined()) mapping.FailUndefined();
  if (!mapping.is(Kind::kDict)) Fail(ErrorKind::kType, "the argument after ** must be a mapping");
  for (const auto& [key, value] : mapping.dict().entries()) {
    if (!key.is_string()) Fail(ErrorKind::kType, "keywords must be strings");
    const bool repeated = args.Named(key.text()) != nullptr;
    if (repeated) Fail(ErrorKind::kType, "multiple values for the keyword argument '{}'", key.text());
    runtime_.Charge(kDictEntrySteps + args.named.size() / 16);
    args.named.emplace_back(key.text(), value);
  }
  return args;
}

Value Interpreter::FilterText(const Expr& filter, Value text, const ScopePtr& scope) {
  runtime_.Charge();
  const Runtime::Nest nest(runtime_);
  if (filter.items[0]) text = FilterText(*filter.items[0], std::move(text), scope);
  return ApplyFilter(runtime_, filter.name, text, EvaluateArguments(filter.call, scope));
}

}  // namespace thimble::jinja

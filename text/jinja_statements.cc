#include <algorithm>

#include "text/jinja_filters.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_loop.h"
#include "text/jinja_macro.h"

namespace thimble::jinja {

Flow Interpreter::Execute(const Body& body, const ScopePtr& scope, std::string* out) {
  for (const auto& stmt : body) {
    try {
      runtime_.Charge();
      const Flow flow = ExecuteStatement(*stmt, scope, out);
      if (flow != Flow::kNext) return flow;
    } catch (TemplateError& error) {
      if (error.line == 0) error.line = stmt->line;
      throw;
    }
  }
  return Flow::kNext;
}

Flow Interpreter::ExecuteStatement(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
  switch (stmt.kind) {
    case StmtKind::kText:
      Write(stmt.text, out);
      return Flow::kNext;
    case StmtKind::kOutput:
      Write(Evaluate(*stmt.value, scope).Str(), out);
      return Flow::kNext;
    case StmtKind::kSet:
      Assign(*stmt.target, Evaluate(*stmt.value, scope), scope);
      return Flow::kNext;
    case StmtKind::kMacro:
      scope->Set(runtime_, stmt.macro->name, MakeMacro(*stmt.macro, scope));
      return Flow::kNext;
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    default:
      break;
  }
  const Runtime::Nest nest(runtime_);  // the statements with a body
  switch (stmt.kind) {
    case StmtKind::kIf:
      return ExecuteIf(stmt, scope, out);
    case StmtKind::kFor: {
      Value iterable = Evaluate(*stmt.value, scope);
      if (!stmt.recursive) return ExecuteLoop(stmt, std::move(iterable), 0, scope, out);
      Write(RenderLoop(stmt, iterable, 0, scope), out);
      return Flow::kNext;
    }
    case StmtKind::kWith:
      return ExecuteWith(stmt, scope, out);
    case StmtKind::kScope:
      return Execute(stmt.body, std::make_shared<Scope>(scope), out);
    case StmtKind::kCall:
      ExecuteCallBlock(stmt, scope, out);
      return Flow::kNext;
    default: {  // kSetBlock, kFilter
      const auto inner = std::make_shared<Scope>(scope);
      std::string captured;
      const Flow flow = Execute(stmt.body, inner, &captured);
      if (flow != Flow::kNext) return flow;  // as in Jinja2, what was captured is lost
      Value text = runtime_.Text(std::move(captured));
      if (stmt.filter) text = FilterText(*stmt.filter, std::move(text), inner);
      if (stmt.kind == StmtKind::kFilter) {
        Write(text.Str(), out);
      } else {
        Assign(*stmt.target, text, scope);
      }
      return Flow::kNext;
    }
  }
}

void Interpreter::Write(std::string_view text, std::string* out) {
  runtime_.Charge(text.size() / 4);
  if (out->size() + text.size() > kMaxTextBytes) {
    Fail(ErrorKind::kLimit, "the text is longer than {} bytes", kMaxTextBytes);
  }
  out->append(text);
}

void Interpreter::Assign(const Expr& target, const Value& value, const ScopePtr& scope) {
  switch (target.kind) {
    case ExprKind::kName:
      return scope->Set(runtime_, target.name, value);
    case ExprKind::kNamespaceRef:
      return SetNamespaceAttribute(runtime_, EvaluateName(target, scope), target.attribute, value);
    default:
      break;
  }
  const size_t n_targets = target.items.size();
  const auto iterator = Iterate(runtime_, value);
  std::vector<Value> parts;
  for (Value part; parts.size() <= n_targets && iterator->Next(runtime_, &part);) parts.push_back(part);
  if (parts.size() > n_targets) {
    Fail(ErrorKind::kValue, "too many values to unpack (expected {})", n_targets);
  }
  if (parts.size() < n_targets) {
    Fail(ErrorKind::kValue, "not enough values to unpack (expected {}, got {})", n_targets, parts.size());
  }
  for (size_t i = 0; i < n_targets; ++i) Assign(*target.items[i], parts[i], scope);
}

Flow Interpreter::ExecuteIf(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
  for (const auto& [condition, body] : stmt.branches) {
    if (!condition || Evaluate(*condition, scope).Truthy()) return Execute(body, scope, out);
  }
  return Flow::kNext;
}

Flow Interpreter::ExecuteWith(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
  const auto inner = std::make_shared<Scope>(scope);
  for (const auto& [target, value] : stmt.bindings) Assign(*target, Evaluate(*value, scope), inner);
  return Execute(stmt.body, inner, out);
}

// `for ... if test`: only the items that pass, found as the loop asks for them.
Value Interpreter::Filtered(const Stmt& loop, const Value& iterable, const ScopePtr& scope) {
  const auto source = Iterate(runtime_, iterable);
  return Generator({iterable}, [this, &loop, source, scope](Runtime& runtime, Value* out) {
    while (source->Next(runtime, out)) {
      const auto inner = std::make_shared<Scope>(scope);
      Assign(*loop.target, *out, inner);
      if (Evaluate(*loop.test, inner).Truthy()) return true;
    }
    return false;
  });
}

Flow Interpreter::ExecuteLoop(const Stmt& stmt, Value iterable, int depth, const ScopePtr& scope,
                              std::string* out) {
  if (stmt.test) iterable = Filtered(stmt, iterable, scope);
  const auto loop = std::make_shared<LoopObject>(*this, iterable, stmt, depth, scope);
  const Value loop_value = Value::Host(loop);
  bool finished_one =
      false;  // as Jinja2: the else part also runs if every item was left by break or continue
  for (Value item; loop->Advance(runtime_, &item);) {
    const auto inner = std::make_shared<Scope>(scope);
    Assign(*stmt.target, item, inner);
    inner->Set(runtime_, "loop", loop_value);
    const Flow flow = Execute(stmt.body, inner, out);
    if (flow == Flow::kBreak) break;
    finished_one = finished_one || flow == Flow::kNext;
  }
  if (finished_one || stmt.else_body.empty()) return Flow::kNext;
  return Execute(stmt.else_body, std::make_shared<Scope>(scope), out);
}

std::string Interpreter::RenderLoop(const Stmt& loop, const Value& iterable, int depth,
                                    const ScopePtr& scope) {
  std::string text;
  ExecuteLoop(loop, iterable, depth, scope, &text);
  return text;
}

Value Interpreter::MakeMacro(const MacroSyntax& syntax, const ScopePtr& scope) {
  runtime_.Keep(scope);
  return Value::Host(std::make_shared<MacroObject>(*this, syntax, scope));
}

void Interpreter::ExecuteCallBlock(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
  const Value callee = Evaluate(*stmt.value->items[0], scope);
  CallArgs args = EvaluateArguments(stmt.value->call, scope);
  if (args.Named("caller") != nullptr) Fail(ErrorKind::kType, "a call block sets 'caller' itself");
  args.named.emplace_back("caller", MakeMacro(*stmt.macro, scope));
  Write(CallValue(runtime_, callee, args).Str(), out);
}

}  // namespace thimble::jinja

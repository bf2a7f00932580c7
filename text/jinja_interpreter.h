// The evaluator: walks the syntax tree of one template for one rendering.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_runtime.h"

namespace thimble::jinja {

// The variables of a block. Loops, macros, `with` and captured blocks have scopes of their own; `if` has not.
// Reading looks outward, assigning never does.
class Scope : public Clearable {
 public:
  explicit Scope(std::shared_ptr<Scope> parent) : parent_(std::move(parent)) {}

  const Value* Find(Runtime& runtime, std::string_view name) const;
  void Set(Runtime& runtime, std::string_view name, Value value);
  void Clear() override { variables_.clear(); }
  const std::vector<std::pair<std::string, Value>>& variables() const { return variables_; }

 private:
  std::shared_ptr<Scope> parent_;
  std::vector<std::pair<std::string, Value>> variables_;
};
using ScopePtr = std::shared_ptr<Scope>;

enum class Flow { kNext, kBreak, kContinue };

class Interpreter {
 public:
  explicit Interpreter(Runtime& runtime) : runtime_(runtime) {}

  // jinja_expressions.cc
  Value Evaluate(const Expr& expr, const ScopePtr& scope);
  // The filters of a filter or set block, applied to its text.
  Value FilterText(const Expr& filter, Value text, const ScopePtr& scope);
  CallArgs EvaluateArguments(const CallSyntax& call, const ScopePtr& scope);

  // jinja_statements.cc
  Flow Execute(const Body& body, const ScopePtr& scope, std::string* out);
  void Assign(const Expr& target, const Value& value, const ScopePtr& scope);
  // One level of a recursive loop.
  std::string RenderLoop(const Stmt& loop, const Value& iterable, int depth, const ScopePtr& scope);

  Runtime& runtime() { return runtime_; }

 private:
  Value EvaluateCompare(const Expr& expr, const ScopePtr& scope);
  Value EvaluateConcat(const Expr& expr, const ScopePtr& scope);
  Value EvaluateCondition(const Expr& expr, const ScopePtr& scope);
  Value EvaluateDict(const Expr& expr, const ScopePtr& scope);
  Value EvaluateName(const Expr& expr, const ScopePtr& scope);
  Value EvaluateSlice(const Expr& expr, const ScopePtr& scope);
  std::vector<Value> EvaluateAll(const std::vector<ExprPtr>& items, const ScopePtr& scope);
  Value EvaluateNested(const Expr& expr, const ScopePtr& scope);

  Flow ExecuteStatement(const Stmt& stmt, const ScopePtr& scope, std::string* out);
  Flow ExecuteIf(const Stmt& stmt, const ScopePtr& scope, std::string* out);
  Flow ExecuteLoop(const Stmt& stmt, Value iterable, int depth, const ScopePtr& scope, std::string* out);
  Flow ExecuteWith(const Stmt& stmt, const ScopePtr& scope, std::string* out);
  void ExecuteCallBlock(const Stmt& stmt, const ScopePtr& scope, std::string* out);
  Value Filtered(const Stmt& loop, const Value& iterable, const ScopePtr& scope);
  Value MakeMacro(const MacroSyntax& syntax, const ScopePtr& scope);
  void Write(std::string_view text, std::string* out);

  Runtime& runtime_;
};

}  // namespace thimble::jinja

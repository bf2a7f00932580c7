// The syntax tree of a template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_ops.h"

namespace thimble::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

enum class ExprKind : uint8_t {
  kConstant,   // constant
  kName,       // name
  kList,       // items
  kTuple,      // items
  kDict,       // items: key, value, key, value, ...
  kAttribute,  // items[0].name
  kItem,       // items[0][items[1]]
  kSlice,      // items[0][items[1]:items[2]:items[3]], absent bounds null
  kCall,       // items[0](call)
  kFilter,     // items[0] | name(call); items[0] null in filter blocks
  kTest,       // items[0] is name(call)
  kBinary,     // items[0] binary items[1]
  kConcat,     // items[0] ~ items[1] ~ ...
  kCompare,    // items[0] compares[0] items[1] compares[1] items[2] ...
  kAnd,
  kOr,  // items[0], items[1]
  kNot,
  kNegate,
  kPlus,          // items[0]
  kCondition,     // items[0] if items[1] else items[2], the last null if absent
  kNamespaceRef,  // name.attribute, as a target of set only
};

struct CallSyntax {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;  // *args, **kwargs
};

struct Expr {
  ExprKind kind;
  int line;
  int depth = 1;  // of this tree
  std::string name;
  std::string attribute;
  Value constant;
  std::vector<ExprPtr> items;
  BinaryOp binary = BinaryOp::kAdd;
  std::vector<CompareOp> compares;
  CallSyntax call;
};

enum class StmtKind : uint8_t {
  kText,      // text
  kOutput,    // value
  kIf,        // branches: (condition, body); the last condition is null for else
  kFor,       // for target in value if test: body, else_body
  kSet,       // target = value
  kSetBlock,  // target, filter (may be null), body
  kMacro,     // macro
  kCall,      // macro is the caller; value is the call
  kFilter,    // filter, body
  kWith,      // targets and values, body
  kScope,     // body in a scope of its own ({% generation %}, {% block %})
  kBreak,
  kContinue,
};

struct MacroSyntax {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  Body body;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

struct Stmt {
  StmtKind kind;
  int line;
  std::string text;
  ExprPtr value, target, test, filter;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;  // kWith
  Body body, else_body;
  bool recursive = false;
  std::unique_ptr<MacroSyntax> macro;
};

}  // namespace thimble::jinja

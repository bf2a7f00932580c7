#pragma once

#include <optional>
#include <string_view>

#include "text/jinja_interpreter.h"

namespace thimble::jinja {

// A macro, or the body of a call block, with the scope that it was defined in.
class MacroObject : public HostObject {
 public:
  MacroObject(Interpreter& interpreter, const MacroSyntax& syntax, ScopePtr scope)
      : interpreter_(interpreter), syntax_(syntax), scope_(std::move(scope)) {}

  const char* TypeName() const override { return "Macro"; }
  std::string Repr() const override;
  std::optional<Value> Attribute(Runtime& runtime, std::string_view name) override;
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const CallArgs& args) override;

 private:
  void Bind(Runtime& runtime, const CallArgs& args, const ScopePtr& inner) const;

  Interpreter& interpreter_;
  const MacroSyntax& syntax_;
  const ScopePtr scope_;
};

}  // namespace thimble::jinja

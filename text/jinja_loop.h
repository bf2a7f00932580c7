// The `loop` variable, Jinja2's LoopContext.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "text/jinja_interpreter.h"

namespace thimble::jinja {

class LoopObject : public HostObject, public Clearable, public std::enable_shared_from_this<LoopObject> {
 public:
  LoopObject(Interpreter& interpreter, const Value& iterable, const Stmt& stmt, int depth, ScopePtr scope);

  // The next item, or false at the end.
  bool Advance(Runtime& runtime, Value* item);

  const char* TypeName() const override { return "LoopContext"; }
  std::optional<Value> Attribute(Runtime& runtime, std::string_view name) override;
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const CallArgs& args) override;  // recursion
  void Clear() override { last_changed_.reset(); }

 private:
  Int CountItems(Runtime& runtime);
  const std::optional<Value>& Peek(Runtime& runtime);
  Value Cycle(const CallArgs& args) const;
  Value Changed(Runtime& runtime, const CallArgs& args);

  Interpreter& interpreter_;
  const Value iterable_;
  const Stmt& stmt_;
  const int depth_;
  const ScopePtr scope_;
  std::shared_ptr<IteratorObject> iterator_;
  Int index_ = -1;  // from 0
  std::optional<Int> length_;
  std::optional<Value> before_, current_, after_;  // after_ once it was looked at
  std::optional<Value> last_changed_;
};

}  // namespace thimble::jinja

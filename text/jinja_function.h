// A callable value made of a C++ function.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "text/jinja_value.h"

namespace thimble::jinja {

struct FunctionObject : HostObject {
  using Body = std::function<Value(Runtime&, const CallArgs&)>;
  FunctionObject(const char* function_name, Body function_body)
      : name(function_name), body(std::move(function_body)) {}
  const char* TypeName() const override { return "function"; }
  std::string Repr() const override { return std::string("<function ") + name + ">"; }
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const CallArgs& args) override { return body(runtime, args); }
  const char* name;
  Body body;
};

inline Value Function(const char* name, FunctionObject::Body body) {
  return Value::Host(std::make_shared<FunctionObject>(name, std::move(body)));
}

}  // namespace thimble::jinja

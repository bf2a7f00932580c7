#include "text/jinja_loop.h"

#include "text/jinja_function.h"

namespace thimble::jinja {

LoopObject::LoopObject(Interpreter& interpreter, const Value& iterable, const Stmt& stmt, int depth,
                       ScopePtr scope)
    : interpreter_(interpreter),
      iterable_(iterable),
      stmt_(stmt),
      depth_(depth),
      scope_(std::move(scope)),
      iterator_(Iterate(interpreter.runtime(), iterable)) {
  Absorb(this, iterable);
}

bool LoopObject::Advance(Runtime& runtime, Value* item) {
  if (after_) {
    *item = *std::exchange(after_, std::nullopt);
  } else if (!iterator_->Next(runtime, item)) {
    return false;
  }
  ++index_;
  before_ = std::exchange(current_, *item);
  return true;
}

const std::optional<Value>& LoopObject::Peek(Runtime& runtime) {
  if (Value next; !after_ && iterator_->Next(runtime, &next)) after_ = std::move(next);
  return after_;
}

// A generator is read to its end to count it.
Int LoopObject::CountItems(Runtime& runtime) {
  if (length_) return *length_;
  if (const auto known = iterable_.Length()) {
    length_ = static_cast<Int>(*known);
    return *length_;
  }
  auto rest = Collect(runtime, Value::Iterator(iterator_));
  length_ = static_cast<Int>(rest.size()) + index_ + 1 + (after_ ? 1 : 0);
  iterator_ = Iterate(runtime, runtime.List(std::move(rest)));
  return *length_;
}

std::optional<Value> LoopObject::Attribute(Runtime& runtime, std::string_view name) {
  if (name == "index") return Value::Integer(index_ + 1);
  if (name == "index0") return Value::Integer(index_);
  if (name == "first") return Value::Bool(index_ == 0);
  if (name == "last") return Value::Bool(!Peek(runtime));
  if (name == "length") return Value::Integer(CountItems(runtime));
  if (name == "revindex") return Value::Integer(CountItems(runtime) - index_);
  if (name == "revindex0") return Value::Integer(CountItems(runtime) - index_ - 1);
  if (name == "depth") return Value::Integer(depth_ + 1);
  if (name == "depth0") return Value::Integer(depth_);
  if (name == "previtem") {
    return index_ == 0 ? Value::Undefined("there is no previous item") : before_.value_or(Value());
  }
  if (name == "nextitem") return Peek(runtime) ? *after_ : Value::Undefined("there is no next item");
  const auto self = shared_from_this();
  if (name == "cycle") {
    return Function("cycle", [self](Runtime&, const CallArgs& args) { return self->Cycle(args); });
  }
  if (name == "changed") {
    return Function(
        "changed", [self](Runtime& runtime_, const CallArgs& args) { return self->Changed(runtime_, args); });
  }
  return std::nullopt;
}

Value LoopObject::Cycle(const CallArgs& args) const {
  const auto& items = args.positional;
  if (items.empty()) Fail(ErrorKind::kType, "no items for cycling given");
  return items[static_cast<size_t>(index_) % items.size()];
}

Value LoopObject::Changed(Runtime& runtime, const CallArgs& args) {
  const Value now = runtime.Tuple(args.positional);
  if (last_changed_ && Compare(runtime, CompareOp::kEq, *last_changed_, now)) return Value::Bool(false);
  if (!last_changed_) runtime.Keep(shared_from_this());
  last_changed_ = now;
  return Value::Bool(true);
}

Value LoopObject::Call(Runtime& runtime, const CallArgs& args) {
  if (!stmt_.recursive) Fail(ErrorKind::kType, "only a loop that is marked 'recursive' can be called");
  if (args.positional.size() != 1 || !args.named.empty()) {
    Fail(ErrorKind::kType, "loop() takes one argument, the items of the inner loop");
  }
  return runtime.Text(interpreter_.RenderLoop(stmt_, args.positional[0], depth_ + 1, scope_));
}

}  // namespace thimble::jinja

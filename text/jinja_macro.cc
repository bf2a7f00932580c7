#include "text/jinja_macro.h"

#include <algorithm>

namespace thimble::jinja {

std::string MacroObject::Repr() const {
  return "<Macro " + QuotedRepr(syntax_.name) + ">";
}

std::optional<Value> MacroObject::Attribute(Runtime& runtime, std::string_view name) {
  if (name == "name") return runtime.Text(syntax_.name);
  if (name == "arguments") {
    std::vector<Value> names;
    for (const auto& parameter : syntax_.parameters) names.push_back(runtime.Text(parameter));
    return runtime.Tuple(std::move(names));
  }
  if (name == "catch_kwargs") return Value::Bool(syntax_.uses_kwargs);
  if (name == "catch_varargs") return Value::Bool(syntax_.uses_varargs);
  if (name == "caller") return Value::Bool(syntax_.uses_caller);
  return std::nullopt;
}

Value MacroObject::Call(Runtime& runtime, const CallArgs& args) {
  const auto inner = std::make_shared<Scope>(scope_);
  Bind(runtime, args, inner);
  std::string text;
  interpreter_.Execute(syntax_.body, inner, &text);
  return runtime.Text(std::move(text));
}

void MacroObject::Bind(Runtime& runtime, const CallArgs& args, const ScopePtr& inner) const {
  const auto& names = syntax_.parameters;
  const size_t n_given = std::min(args.positional.size(), names.size());
  const auto is_parameter = [&](std::string_view name) {  // and not bound by position
    return std::find(names.begin() + static_cast<ptrdiff_t>(n_given), names.end(), name) != names.end();
  };
  // All names first: a default does not see an outer variable of the name of a later parameter.
  std::vector<bool> missing(names.size(), false);
  for (size_t i = 0; i < names.size(); ++i) {
    const Value* named = i < n_given ? nullptr : args.Named(names[i]);
    missing[i] = i >= n_given && named == nullptr;
    inner->Set(runtime, names[i],
               i < n_given ? args.positional[i]
               : named     ? *named
                           : Value::Undefined(fmt::format("'{}' is undefined", names[i])));
  }
  auto rest = std::make_shared<DictObject>();
  const Value* caller = nullptr;
  for (const auto& [name, value] : args.named) {
    if (is_parameter(name)) continue;
    if (name == "caller" && syntax_.uses_caller) {
      caller = &value;
    } else if (syntax_.uses_kwargs) {
      runtime.Charge(kDictEntrySteps);
      rest->Set(runtime.Text(name), value);
    } else {
      Fail(ErrorKind::kType, "macro '{}' takes no keyword argument '{}'", syntax_.name, name);
    }
  }
  if (syntax_.uses_caller) {
    inner->Set(runtime, "caller", caller ? *caller : Value::Undefined("No caller defined"));
  }
  if (syntax_.uses_kwargs) inner->Set(runtime, "kwargs", Value::Dict(std::move(rest)));
  if (syntax_.uses_varargs) {
    inner->Set(
        runtime, "varargs",
        runtime.Tuple({args.positional.begin() + static_cast<ptrdiff_t>(n_given), args.positional.end()}));
  } else if (args.positional.size() > names.size()) {
    Fail(ErrorKind::kType, "macro '{}' takes not more than {} argument(s)", syntax_.name, names.size());
  }
  const size_t first_default = names.size() - syntax_.defaults.size();
  for (size_t i = 0; i < names.size(); ++i) {
    if (!missing[i]) continue;
    inner->Set(runtime, names[i],
               i >= first_default
                   ? interpreter_.Evaluate(*syntax_.defaults[i - first_default], inner)
                   : Value::Undefined(fmt::format("parameter '{}' was not provided", names[i])));
  }
}

}  // namespace thimble::jinja

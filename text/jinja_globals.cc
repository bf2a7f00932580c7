#include <array>
#include <ctime>

#include "text/jinja_args.h"
#include "text/jinja_filters.h"
#include "text/jinja_function.h"
#include "text/jinja_interpreter.h"

namespace thimble::jinja {
namespace {

constexpr size_t kMaxRange = 100'000;  // of the sandbox

// dict(mapping or pairs, **named).
std::shared_ptr<DictObject> MakeDict(Runtime& runtime, const CallArgs& args) {
  auto dict = std::make_shared<DictObject>();
  const auto set = [&](const Value& key, const Value& value) {
    runtime.Charge(kDictEntrySteps + key.weight() / 16);
    dict->Set(key, value);
  };
  if (args.positional.size() > 1) {
    Fail(ErrorKind::kType, "dict expected at most 1 argument, got {}", args.positional.size());
  }
  if (!args.positional.empty() && args.positional[0].is(Kind::kDict)) {
    for (const auto& [key, value] : args.positional[0].dict().entries()) set(key, value);
  } else if (!args.positional.empty()) {
    for (const Value& pair : Collect(runtime, args.positional[0])) {
      const auto parts = Collect(runtime, pair);
      if (parts.size() != 2) Fail(ErrorKind::kValue, "dict() needs pairs, got {} items", parts.size());
      set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) set(runtime.Text(name), value);
  return dict;
}

class NamespaceObject : public HostObject, public Clearable {
 public:
  const char* TypeName() const override { return "Namespace"; }
  // A namespace may hold itself; the count bounds the recursion.
  std::string Repr() const override {
    constexpr int kMaxReprs = 20;
    static thread_local int open = 0;
    struct Count {
      Count() { ++open; }
      ~Count() { --open; }
    } const count;
    if (open > kMaxReprs) Fail(ErrorKind::kLimit, "namespaces hold one another too deep to be printed");
    std::string text = "<Namespace {";
    for (const auto& [name, value] : attributes_.variables()) {
      if (text.back() != '{') text += ", ";
      text += QuotedRepr(name) + ": " + value.Repr();
    }
    return text + "}>";
  }
  std::optional<Value> Attribute(Runtime& runtime, std::string_view name) override {
    const Value* found = attributes_.Find(runtime, name);
    return found != nullptr ? std::optional(*found) : std::nullopt;
  }
  void Set(Runtime& runtime, const std::string& name, const Value& value) {
    attributes_.Set(runtime, name, value);
  }
  void Clear() override { attributes_.Clear(); }

 private:
  Scope attributes_{nullptr};
};

class CyclerObject : public HostObject, public std::enable_shared_from_this<CyclerObject> {
 public:
  explicit CyclerObject(Value items) : items_(std::move(items)) { Absorb(this, items_); }
  const char* TypeName() const override { return "Cycler"; }
  std::optional<Value> Attribute(Runtime&, std::string_view name) override {
    if (name == "current") return Current();
    const auto self = shared_from_this();
    if (name == "next") {
      return Function("next", [self](Runtime&, const CallArgs& call) {
        const BoundArgs args("next", call, {});
        Value current = self->Current();
        self->position_ = (self->position_ + 1) % self->items_.items().size();
        return current;
      });
    }
    if (name == "reset") {
      return Function("reset", [self](Runtime&, const CallArgs& call) {
        const BoundArgs args("reset", call, {});
        self->position_ = 0;
        return Value::None();
      });
    }
    return std::nullopt;
  }

 private:
  Value Current() const { return items_.items()[position_]; }
  Value items_;
  size_t position_ = 0;
};

Value MakeRange(Runtime&, const CallArgs& args) {
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty()) {
    Fail(ErrorKind::kType, "range() takes one to three ints");
  }
  std::array<Int, 3> bounds = {0, 0, 1};
  const size_t n = args.positional.size();
  for (size_t i = 0; i < n; ++i) {
    const Value& bound = args.positional[i];
    if (!bound.is_integral()) {
      Fail(ErrorKind::kType, "'{}' object cannot be interpreted as an integer", bound.TypeName());
    }
    constexpr Int kLimit = Int{1} << 62;
    if (bound.integer() > kLimit || bound.integer() < -kLimit) {
      Fail(ErrorKind::kOverflow, "an argument of range() is too large");
    }
    bounds[n == 1 ? 1 : i] = bound.integer();
  }
  if (bounds[2] == 0) Fail(ErrorKind::kValue, "range() arg 3 must not be zero");
  Value range = Value::Range(bounds[0], bounds[1], bounds[2]);
  if (range.range().size > kMaxRange) {
    Fail(ErrorKind::kOverflow, "a range may have at most {} items", kMaxRange);
  }
  return range;
}

Value MakeNamespace(Runtime& runtime, const CallArgs& args) {
  auto object = std::make_shared<NamespaceObject>();
  runtime.Keep(object);
  const auto attributes = MakeDict(runtime, args);
  for (const auto& [name, value] : attributes->entries()) {
    if (!name.is_string()) Fail(ErrorKind::kType, "attribute names must be strings");
    object->Set(runtime, name.text(), value);
  }
  return Value::Host(std::move(object));
}

Value MakeCycler(Runtime& runtime, const CallArgs& args) {
  if (args.positional.empty()) Fail(ErrorKind::kRuntime, "at least one item has to be provided");
  return Value::Host(std::make_shared<CyclerObject>(runtime.Tuple(args.positional)));
}

Value MakeJoiner(Runtime& runtime, const CallArgs& call) {
  const BoundArgs args("joiner", call, {"sep"});
  return Function("joiner", [separator = args.Or(0, runtime.Text(", ")), used = false](
                                Runtime& inner, const CallArgs&) mutable {
    return std::exchange(used, true) ? separator : inner.Text("");
  });
}

Value RaiseException(Runtime&, const CallArgs& call) {
  const BoundArgs args("raise_exception", call, {"message"}, 1);
  throw TemplateError(ErrorKind::kRaised, args[0].Str());
}

// datetime.now().strftime(format): local time without a zone.
Value FormatNow(Runtime& runtime, const CallArgs& call) {
  const BoundArgs args("strftime_now", call, {"format"}, 1);
  if (!args[0].is_string())
    Fail(ErrorKind::kType, "strftime_now() needs a str, not '{}'", args[0].TypeName());
  std::string format;
  const std::string& text = args[0].text();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      format += text[i];
      continue;
    }
    const char letter = text[++i];
    if (letter == 'f') {
      format += "000000";  // a clock of seconds
    } else if (letter != 'z' && letter != 'Z') {
      format += {'%', letter};
    }
  }
  const std::time_t now = runtime.now() ? static_cast<std::time_t>(*runtime.now()) : std::time(nullptr);
  std::tm local{};
  if (localtime_r(&now, &local) == nullptr) Fail(ErrorKind::kValue, "the time is out of range");
  std::array<char, 4096> buffer;
  format += ' ';  // so that 0 can only mean "too long"
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0) Fail(ErrorKind::kLimit, "the result of strftime_now is longer than {} bytes", buffer.size());
  return runtime.Text(ToValidUtf8(std::string_view(buffer.data(), size - 1)));
}

Value MakeDictValue(Runtime& runtime, const CallArgs& args) {
  return Value::Dict(MakeDict(runtime, args));
}

}  // namespace

void SetNamespaceAttribute(Runtime& runtime, const Value& object, const std::string& name,
                           const Value& value) {
  auto* target = object.is(Kind::kHost) ? dynamic_cast<NamespaceObject*>(&object.host()) : nullptr;
  if (target == nullptr) Fail(ErrorKind::kRuntime, "cannot assign attribute on non-namespace object");
  target->Set(runtime, name, value);
}

std::vector<std::pair<std::string_view, Value>> GlobalFunctions() {
  return {{"range", Function("range", MakeRange)},
          {"dict", Function("dict", MakeDictValue)},
          {"namespace", Function("namespace", MakeNamespace)},
          {"cycler", Function("cycler", MakeCycler)},
          {"joiner", Function("joiner", MakeJoiner)},
          {"raise_exception", Function("raise_exception", RaiseException)},
          {"strftime_now", Function("strftime_now", FormatNow)}};
}

}  // namespace thimble::jinja

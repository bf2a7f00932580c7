#include "text/jinja_args.h"

#include <algorithm>

namespace thimble::jinja {

BoundArgs::BoundArgs(const char* function, const CallArgs& args, std::initializer_list<const char*> names,
                     size_t required)
    : function_(function), values_(names.size()) {
  if (args.positional.size() > names.size()) {
    Fail(ErrorKind::kType, "{}() takes at most {} arguments ({} given)", function, names.size(),
         args.positional.size());
  }
  std::copy(args.positional.begin(), args.positional.end(), values_.begin());
  for (const auto& [name, value] : args.named) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) {
      Fail(ErrorKind::kType, "{}() got an unexpected keyword argument '{}'", function, name);
    }
    auto& slot = values_[static_cast<size_t>(it - names.begin())];
    if (slot) Fail(ErrorKind::kType, "{}() got multiple values for argument '{}'", function, name);
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      Fail(ErrorKind::kType, "{}() is missing the argument '{}'", function, *(names.begin() + i));
    }
  }
}

Int BoundArgs::IntOr(size_t i, Int fallback) const {
  if (!Given(i)) return fallback;
  if (values_[i]->is_undefined()) values_[i]->FailUndefined();
  if (!values_[i]->is_integral()) {
    Fail(ErrorKind::kType, "{}() needs an int, not '{}'", function_, values_[i]->TypeName());
  }
  return values_[i]->integer();
}

std::string BoundArgs::TextOr(size_t i, std::string fallback) const {
  if (!Given(i)) return fallback;
  if (!values_[i]->is_string()) {
    Fail(ErrorKind::kType, "{}() needs a str, not '{}'", function_, values_[i]->TypeName());
  }
  return values_[i]->text();
}

}  // namespace thimble::jinja

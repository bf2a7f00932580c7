// Binding of call arguments to parameter names, as Python does for its functions.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "text/jinja_value.h"

namespace thimble::jinja {

class BoundArgs {
 public:
  // `names` in order; the first `required` must be given. Throws kType on anything missing, unknown or too
  // many.
  BoundArgs(const char* function, const CallArgs& args, std::initializer_list<const char*> names,
            size_t required = 0);

  bool Has(size_t i) const { return values_[i].has_value(); }
  const Value& operator[](size_t i) const { return *values_[i]; }
  Value Or(size_t i, Value fallback) const { return values_[i] ? *values_[i] : fallback; }
  bool IsTrue(size_t i) const { return values_[i] && values_[i]->Truthy(); }
  // An argument that must be an int or a str. None counts as absent.
  Int IntOr(size_t i, Int fallback) const;
  std::string TextOr(size_t i, std::string fallback) const;
  bool Given(size_t i) const { return values_[i] && !values_[i]->is_none(); }

 private:
  const char* function_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace thimble::jinja

// The one exception of the template interpreter. It never leaves text/: ChatTemplate turns it into an Error.
// Python's own `try` blocks inside Jinja2 (attribute lookup, the `int` filter, ...) make exceptions the
// natural way to mirror its behaviour.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace thimble::jinja {

enum class ErrorKind {
  kSyntax,     // the template does not parse
  kRaised,     // raise_exception()
  kRuntime,    // Jinja2's own checks
  kType,       // TypeError
  kValue,      // ValueError
  kLookup,     // IndexError, KeyError
  kOverflow,   // OverflowError, ZeroDivisionError
  kUndefined,  // an operation on an undefined value
  kSecurity,   // what the sandbox forbids
  kLimit,      // steps, depth or bytes
};

struct TemplateError : std::runtime_error {
  TemplateError(ErrorKind error_kind, const std::string& message, int error_line = 0)
      : std::runtime_error(message), kind(error_kind), line(error_line) {}
  ErrorKind kind;
  int line;  // 1-based; 0 where the thrower does not know it
};

template <typename... Args>
[[noreturn]] void Fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError(kind, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void FailAt(int line, fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError(ErrorKind::kSyntax, fmt::format(format, std::forward<Args>(args)...), line);
}

}  // namespace thimble::jinja

// Errors that come from outside (files, flags, JSON, prompts) travel as values.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace thimble {

enum class ErrorCode {
  kInvalidArgument,  // a flag, a field or a request that cannot be served as it stands
  kNotFound,         // a file, tensor or key that should exist does not
  kCorrupt,          // bytes that do not follow their format; the message names the file and offset or field
  kUnsupported,      // well-formed, but Thimble does not do this
  kIo,               // the operating system said no
  kCancelled,        // the user interrupted
};

struct Error {
  ErrorCode code;
  std::string message;  // says what happened and what to do, without a trailing full stop
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
tl::unexpected<Error> MakeError(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace thimble

#define THIMBLE_CONCAT_INNER(a, b) a##b
#define THIMBLE_CONCAT(a, b) THIMBLE_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                                        \
  do {                                                               \
    auto&& status_ = (expr);                                         \
    if (!status_) return tl::unexpected(std::move(status_).error()); \
  } while (false)

// ASSIGN_OR_RETURN(auto file, ReadGguf(path));
#define ASSIGN_OR_RETURN(lhs, expr) THIMBLE_ASSIGN_OR_RETURN(THIMBLE_CONCAT(result_, __LINE__), lhs, expr)
#define THIMBLE_ASSIGN_OR_RETURN(tmp, lhs, expr)           \
  auto tmp = (expr);                                       \
  if (!tmp) return tl::unexpected(std::move(tmp).error()); \
  lhs = *std::move(tmp)

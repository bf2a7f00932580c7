// JSON from outside: parsed without exceptions, with bounded depth.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thimble {

// Keeps the order of keys, as model makers wrote them.
using Json = nlohmann::ordered_json;

// `source` (a file name or a flag) goes into the error, with the byte offset. Nesting beyond `max_depth` is
// refused.
Result<Json> ParseJson(std::string_view text, const std::string& source, int max_depth = 128);
Result<Json> ReadJsonFile(const std::string& path);

// Serializes without throwing: bytes that are not UTF-8 become U+FFFD.
std::string DumpJson(const Json& value, int indent = -1);

}  // namespace thimble

#include "base/json.h"

#include "base/file.h"

namespace thimble {
namespace {

// nlohmann's parser recurses only in destructors and dump, so depth is bounded before the tree is built.
bool DepthWithin(std::string_view text, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

}  // namespace

Result<Json> ParseJson(std::string_view text, const std::string& source, int max_depth) {
  if (!DepthWithin(text, max_depth)) {
    return MakeError(ErrorCode::kCorrupt, "{}: JSON nested deeper than {} levels", source, max_depth);
  }
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    std::string what = e.what();
    if (size_t end = what.find("] "); end != std::string::npos) what = what.substr(end + 2);
    return MakeError(ErrorCode::kCorrupt, "{}: not valid JSON: {}", source, what);
  }
}

Result<Json> ReadJsonFile(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  return ParseJson(text, path);
}

std::string DumpJson(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace thimble

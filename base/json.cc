#include "base/json.h"

#include <algorithm>
#include <vector>

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

// Builds the tree without nlohmann's search for each key's earlier place, which takes the square of an
// object's size: minutes for a tokenizer's vocabulary. Keys that occur twice are refused instead.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit TreeBuilder(Json& root) : root_(root) {}
  bool null() override { return Put(nullptr); }
  bool boolean(bool value) override { return Put(value); }
  bool number_integer(int64_t value) override { return Put(value); }
  bool number_unsigned(uint64_t value) override { return Put(value); }
  bool number_float(double value, const std::string&) override { return Put(value); }
  bool string(std::string& value) override { return Put(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }  // not in JSON text
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool key(std::string& value) override {
    key_ = std::move(value);
    return true;
  }
  bool end_object() override {
    std::vector<std::string_view> keys;
    for (const auto& [key, value] : open_.back()->get_ref<const Json::object_t&>()) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return Close();
    error_ = fmt::format("the key \"{}\" occurs twice in an object", *twice);
    return false;
  }
  bool parse_error(size_t, const std::string&, const Json::exception& e) override {
    error_ = e.what();
    if (size_t end = error_.find("] "); end != std::string::npos) error_ = error_.substr(end + 2);
    return false;
  }
  const std::string& error() const { return error_; }

 private:
  template <typename Value>
  bool Put(Value&& value) {
    Place() = std::forward<Value>(value);
    return true;
  }
  bool Open(Json container) {
    Json& place = Place();
    place = std::move(container);
    open_.push_back(&place);
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }
  // Where the next value goes. The containers that are open don't move while their last child grows.
  Json& Place() {
    if (open_.empty()) return root_;
    if (open_.back()->is_array()) return open_.back()->get_ref<Json::array_t&>().emplace_back();
    return open_.back()->get_ref<Json::object_t&>().emplace_back(std::move(key_), Json()).second;
  }

  Json& root_;
  std::vector<Json*> open_;
  std::string key_, error_;
};

}  // namespace

Result<Json> ParseJson(std::string_view text, const std::string& source, int max_depth) {
  if (!DepthWithin(text, max_depth)) {
    return MakeError(ErrorCode::kCorrupt, "{}: JSON nested deeper than {} levels", source, max_depth);
  }
  Json root;
  TreeBuilder builder(root);
  if (!Json::sax_parse(text, &builder)) {
    return MakeError(ErrorCode::kCorrupt, "{}: not valid JSON: {}", source, builder.error());
  }
  return root;
}

Result<Json> ReadJsonFile(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  return ParseJson(text, path);
}

std::string DumpJson(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace thimble

#include "model/config_fields.h"

#include <cmath>
#include <limits>

namespace thimble {

ConfigFields::ConfigFields(const Metadata& metadata, std::string file, std::string prefix)
    : file_(std::move(file)), prefix_(std::move(prefix)) {
  find_ = [this, &metadata](const std::string& key) -> std::optional<Field> {
    const MetadataValue* value = metadata.Find(prefix_ + key);
    if (value == nullptr) return std::nullopt;
    Field field{.text = value->ToString()};
    if (value->is_array()) return field;
    field.as_int = value->AsInt();
    field.as_float = value->AsFloat();
    field.as_bool = value->AsBool();
    if (const std::string* text = value->AsString()) field.as_string = *text;
    return field;
  };
}

ConfigFields::ConfigFields(const Json& json, std::string file, std::string prefix)
    : file_(std::move(file)), prefix_(std::move(prefix)) {
  find_ = [&json](const std::string& key) -> std::optional<Field> {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) return std::nullopt;
    Field field{.text = DumpJson(*it).substr(0, 100)};
    const bool too_large =
        it->is_number_unsigned() && it->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
    if (it->is_number_integer() && !too_large) field.as_int = it->get<int64_t>();
    if (it->is_number()) field.as_float = it->get<double>();
    if (it->is_boolean()) field.as_bool = it->get<bool>();
    if (it->is_string()) field.as_string = it->get<std::string>();
    return field;
  };
}

int64_t ConfigFields::Int(const std::string& key, std::optional<int64_t> fallback, int64_t min, int64_t max) {
  const std::optional<Field> field = find_(key);
  if (!field) {
    if (!fallback) Fail(ErrorCode::kCorrupt, key, "is missing");
    return fallback.value_or(min);
  }
  if (field->as_int && *field->as_int >= min && *field->as_int <= max) return *field->as_int;
  Fail(ErrorCode::kCorrupt, key, "is {}, expected a whole number from {} to {}", field->text, min, max);
  return min;
}

double ConfigFields::Float(const std::string& key, double fallback, double above, double below) {
  const std::optional<Field> field = find_(key);
  if (!field) return fallback;
  if (field->as_float && *field->as_float > above && *field->as_float < below) return *field->as_float;
  Fail(ErrorCode::kCorrupt, key, "is {}, expected a number above {} and below {}", field->text, above, below);
  return fallback;
}

bool ConfigFields::Bool(const std::string& key, bool fallback) {
  const std::optional<Field> field = find_(key);
  if (field && !field->as_bool) Fail(ErrorCode::kCorrupt, key, "is {}, expected true or false", field->text);
  return field ? field->as_bool.value_or(fallback) : fallback;
}

std::string ConfigFields::String(const std::string& key, const std::string& fallback) {
  const std::optional<Field> field = find_(key);
  if (field && !field->as_string) Fail(ErrorCode::kCorrupt, key, "is {}, expected a string", field->text);
  return field ? field->as_string.value_or(fallback) : fallback;
}

Status CheckConfig(const ModelConfig& c, const std::string& file) {
  if (c.n_heads % c.n_kv_heads != 0) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} attention heads cannot share {} key-value heads", file,
                     c.n_heads, c.n_kv_heads);
  }
  if (c.head_dim % 2 != 0) {
    return MakeError(ErrorCode::kCorrupt, "{}: the head size {} is odd, so RoPE has no pairs", file,
                     c.head_dim);
  }
  if (c.rope_factors.empty()) return {};
  if (static_cast<int64_t>(c.rope_factors.size()) != c.head_dim / 2) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} RoPE factors for a head size of {}", file,
                     c.rope_factors.size(), c.head_dim);
  }
  for (const float factor : c.rope_factors) {
    if (!(factor > 0) || !std::isfinite(factor)) {
      return MakeError(ErrorCode::kCorrupt, "{}: a RoPE factor is {}", file, factor);
    }
  }
  return {};
}

std::vector<bool> DefaultWindows(const ModelConfig& c, int64_t pattern) {
  std::vector<bool> is_local(static_cast<size_t>(c.n_layers), false);
  if (c.sliding_window == 0) return is_local;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    is_local[static_cast<size_t>(i)] = pattern <= 1 ? pattern == 0 : (i + 1) % pattern != 0;
  }
  return is_local;
}

}  // namespace thimble

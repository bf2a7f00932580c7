#include "formats/metadata.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <type_traits>

namespace thimble {
namespace {

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <>
struct IsVector<StringList> : std::true_type {};

template <typename T>
constexpr MetadataType TypeOf() {
  using enum MetadataType;
  if constexpr (std::is_same_v<T, uint8_t>) return kU8;
  if constexpr (std::is_same_v<T, int8_t>) return kI8;
  if constexpr (std::is_same_v<T, uint16_t>) return kU16;
  if constexpr (std::is_same_v<T, int16_t>) return kI16;
  if constexpr (std::is_same_v<T, uint32_t>) return kU32;
  if constexpr (std::is_same_v<T, int32_t>) return kI32;
  if constexpr (std::is_same_v<T, float>) return kF32;
  if constexpr (std::is_same_v<T, bool>) return kBool;
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view>) return kString;
  if constexpr (std::is_same_v<T, uint64_t>) return kU64;
  if constexpr (std::is_same_v<T, int64_t>) return kI64;
  if constexpr (std::is_same_v<T, double>) return kF64;
}

// Numbers that are not bool.
template <typename T>
constexpr bool kIsNumber = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

template <typename T>
std::optional<int64_t> ToInt(T value) {
  if constexpr (!std::is_integral_v<T> || std::is_same_v<T, bool>) return std::nullopt;
  if constexpr (std::is_same_v<T, uint64_t>) {
    if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  }
  return static_cast<int64_t>(value);
}

template <typename T>
std::string ElementText(const T& value) {
  if constexpr (std::is_same_v<T, bool>) return value ? "true" : "false";
  return fmt::format("{}", value);
}

// At most `max_length` bytes, cut between UTF-8 characters, line breaks made visible.
std::string Shorten(std::string_view text, size_t max_length) {
  std::string out;
  for (const char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20)
      out += ' ';
    else
      out += c;
    if (out.size() > max_length + 3) break;
  }
  if (out.size() <= max_length) return out;
  size_t end = max_length;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xc0) == 0x80) --end;
  return out.substr(0, end) + "...";
}

constexpr std::array<const char*, 13> kTypeNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                    "bool", "string", "array", "u64", "i64", "f64"};

}  // namespace

bool MetadataValue::is_array() const {
  return std::visit([](const auto& v) { return IsVector<std::decay_t<decltype(v)>>::value; }, storage_);
}

MetadataType MetadataValue::type() const {
  return is_array() ? MetadataType::kArray : element_type();
}

MetadataType MetadataValue::element_type() const {
  return std::visit(
      [](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (IsVector<T>::value)
          return TypeOf<typename T::value_type>();
        else
          return TypeOf<T>();
      },
      storage_);
}

size_t MetadataValue::size() const {
  return std::visit(
      [](const auto& v) -> size_t {
        if constexpr (IsVector<std::decay_t<decltype(v)>>::value)
          return v.size();
        else
          return 1;
      },
      storage_);
}

std::optional<int64_t> MetadataValue::AsInt() const {
  return std::visit(
      [](const auto& v) -> std::optional<int64_t> {
        if constexpr (kIsNumber<std::decay_t<decltype(v)>>)
          return ToInt(v);
        else
          return std::nullopt;
      },
      storage_);
}

std::optional<double> MetadataValue::AsFloat() const {
  return std::visit(
      [](const auto& v) -> std::optional<double> {
        if constexpr (kIsNumber<std::decay_t<decltype(v)>>)
          return static_cast<double>(v);
        else
          return std::nullopt;
      },
      storage_);
}

std::optional<bool> MetadataValue::AsBool() const {
  const bool* value = std::get_if<bool>(&storage_);
  return value ? std::optional<bool>(*value) : std::nullopt;
}

const std::string* MetadataValue::AsString() const {
  return std::get_if<std::string>(&storage_);
}

std::optional<std::vector<int64_t>> MetadataValue::AsInts() const {
  return std::visit(
      [](const auto& v) -> std::optional<std::vector<int64_t>> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (IsVector<T>::value) {
          if constexpr (std::is_integral_v<typename T::value_type> && kIsNumber<typename T::value_type>) {
            std::vector<int64_t> out;
            out.reserve(v.size());
            for (const auto x : v) {
              const std::optional<int64_t> value = ToInt(x);
              if (!value) return std::nullopt;
              out.push_back(*value);
            }
            return out;
          }
        }
        return std::nullopt;
      },
      storage_);
}

std::optional<std::vector<float>> MetadataValue::AsFloats() const {
  return std::visit(
      [](const auto& v) -> std::optional<std::vector<float>> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (IsVector<T>::value) {
          if constexpr (kIsNumber<typename T::value_type>) {
            std::vector<float> out;
            out.reserve(v.size());
            for (const auto x : v) out.push_back(static_cast<float>(x));
            return out;
          }
        }
        return std::nullopt;
      },
      storage_);
}

const StringList* MetadataValue::AsStrings() const {
  return std::get_if<StringList>(&storage_);
}

std::string MetadataValue::ToString(size_t max_length) const {
  return std::visit(
      [&](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (IsVector<T>::value) {
          std::string out =
              fmt::format("[{} x {}]", v.size(), kTypeNames[static_cast<uint32_t>(element_type())]);
          for (size_t i = 0; i < v.size() && out.size() < max_length; ++i) {
            const typename T::value_type x = v[i];
            out += (i == 0 ? " " : ", ") + ElementText(x);
          }
          return Shorten(out, max_length);
        } else {
          return Shorten(ElementText(v), max_length);
        }
      },
      storage_);
}

void Metadata::Set(std::string_view key, MetadataValue value) {
  const auto [it, added] = index_.emplace(std::string(key), entries_.size());
  if (added) {
    entries_.emplace_back(std::string(key), std::move(value));
  } else {
    entries_[it->second].second = std::move(value);
  }
}

void Metadata::Remove(std::string_view key) {
  const auto it = index_.find(std::string(key));
  if (it == index_.end()) return;
  const size_t at = it->second;
  index_.erase(it);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(at));
  for (auto& [name, position] : index_) position -= position > at ? 1 : 0;
}

const MetadataValue* Metadata::Find(std::string_view key) const {
  const auto it = index_.find(std::string(key));
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

std::optional<int64_t> Metadata::Int(std::string_view key) const {
  const MetadataValue* value = Find(key);
  return value ? value->AsInt() : std::nullopt;
}
std::optional<double> Metadata::Float(std::string_view key) const {
  const MetadataValue* value = Find(key);
  return value ? value->AsFloat() : std::nullopt;
}
std::optional<bool> Metadata::Bool(std::string_view key) const {
  const MetadataValue* value = Find(key);
  return value ? value->AsBool() : std::nullopt;
}
std::optional<std::string> Metadata::String(std::string_view key) const {
  const MetadataValue* value = Find(key);
  const std::string* text = value ? value->AsString() : nullptr;
  return text ? std::optional<std::string>(*text) : std::nullopt;
}
std::optional<std::vector<int64_t>> Metadata::Ints(std::string_view key) const {
  const MetadataValue* value = Find(key);
  return value ? value->AsInts() : std::nullopt;
}
std::optional<std::vector<float>> Metadata::Floats(std::string_view key) const {
  const MetadataValue* value = Find(key);
  return value ? value->AsFloats() : std::nullopt;
}
const StringList* Metadata::Strings(std::string_view key) const {
  const MetadataValue* value = Find(key);
  return value ? value->AsStrings() : nullptr;
}

}  // namespace thimble

// GGUF's typed key-value pairs, in file order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "formats/string_list.h"

namespace thimble {

// GGUF's on-disk numbers (docs/gguf.md, gguf_metadata_value_type).
enum class MetadataType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// One value with the exact type that the file has or will have. Arrays are flat vectors of one element type
// (GGUF's nested arrays are refused when read: no known file has them).
class MetadataValue {
 public:
  using Storage =
      std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t,
                   int64_t, double, std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                   std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>,
                   std::vector<bool>, StringList, std::vector<uint64_t>, std::vector<int64_t>,
                   std::vector<double>>;
  MetadataValue(Storage storage) : storage_(std::move(storage)) {}  // NOLINT: implicit on purpose

  const Storage& storage() const { return storage_; }
  bool is_array() const;
  MetadataType type() const;          // kArray for arrays
  MetadataType element_type() const;  // of an array; type() otherwise
  size_t size() const;                // elements of an array; 1 otherwise

  // Any number type that holds the value exactly (whole floats are not integers); arrays likewise.
  std::optional<int64_t> AsInt() const;
  std::optional<double> AsFloat() const;  // any number
  std::optional<bool> AsBool() const;
  const std::string* AsString() const;
  std::optional<std::vector<int64_t>> AsInts() const;
  std::optional<std::vector<float>> AsFloats() const;
  const StringList* AsStrings() const;

  // For people: scalars as text, arrays as "[n x type]" with the first few.
  std::string ToString(size_t max_length = 100) const;

 private:
  Storage storage_;
};

class Metadata {
 public:
  void Set(std::string_view key, MetadataValue value);  // replaces in place, or appends
  void Remove(std::string_view key);
  const MetadataValue* Find(std::string_view key) const;
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const std::vector<std::pair<std::string, MetadataValue>>& entries() const { return entries_; }

  std::optional<int64_t> Int(std::string_view key) const;
  std::optional<double> Float(std::string_view key) const;
  std::optional<bool> Bool(std::string_view key) const;
  std::optional<std::string> String(std::string_view key) const;
  std::optional<std::vector<int64_t>> Ints(std::string_view key) const;
  std::optional<std::vector<float>> Floats(std::string_view key) const;
  const StringList* Strings(std::string_view key) const;

 private:
  std::vector<std::pair<std::string, MetadataValue>> entries_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace thimble

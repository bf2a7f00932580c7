// The table of weight types: GGUF's own numbers, names and sizes (ggml.h, enum ggml_type), and Thimble's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace thimble {

// Values are GGUF's on-disk numbers.
enum class WeightType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  // Thimble's own (docs/formats/native.md), at the end of the numbers that its tables hold.
  kT2 = 60,
  kT3 = 61,
  kT4 = 62,
  kT5 = 63,
};

struct WeightTypeInfo {
  WeightType type;
  const char* name;    // as llama.cpp prints it: "Q4_K"
  int64_t block_size;  // weights per block
  size_t block_bytes;
  size_t half_bytes;  // of half a block, in which a row may end; 0: only whole blocks
  bool quantized;     // blocks with scales, as opposed to plain numbers
  bool decodable;     // has a decoder to F32 (integers and F64 are carried, not computed with)
};

std::span<const WeightTypeInfo> AllWeightTypes();
// nullptr for a number that Thimble does not know.
const WeightTypeInfo* FindWeightType(uint32_t number);
const WeightTypeInfo& Info(WeightType type);
// Case-insensitive; "int8" is Q8_0.
std::optional<WeightType> ParseWeightType(std::string_view name);
// Of Thimble's own, which other programs do not read (docs/formats/native.md).
inline bool IsNative(WeightType type) {
  return type >= WeightType::kT2;
}
inline const char* Name(WeightType type) {
  return Info(type).name;
}

// A row of this type is a multiple of it: a block, or half of one.
int64_t RowUnit(WeightType type);
inline bool RowFits(WeightType type, int64_t n) {
  return n % RowUnit(type) == 0;
}
// Bytes of a row of `n` weights, which must fit.
size_t RowBytes(WeightType type, int64_t n);

}  // namespace thimble

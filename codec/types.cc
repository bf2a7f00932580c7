#include "codec/types.h"

#include <strings.h>

#include <string>

#include "base/check.h"
#include "codec/blocks.h"

namespace thimble {
namespace {

using enum WeightType;

// Sizes as in ggml-common.h: scales, minimums and packed weights of one block.
constexpr WeightTypeInfo kTypes[] = {
    {kF32, "F32", 1, 4, false, true},
    {kF16, "F16", 1, 2, false, true},
    {kBF16, "BF16", 1, 2, false, true},
    {kQ8_0, "Q8_0", 32, 34, true, true},
    {kQ4_0, "Q4_0", 32, 18, true, true},
    {kQ4_1, "Q4_1", 32, 20, true, true},
    {kQ5_0, "Q5_0", 32, 22, true, true},
    {kQ5_1, "Q5_1", 32, 24, true, true},
    {kQ2_K, "Q2_K", 256, 84, true, true},
    {kQ3_K, "Q3_K", 256, 110, true, true},
    {kQ4_K, "Q4_K", 256, 144, true, true},
    {kQ5_K, "Q5_K", 256, 176, true, true},
    {kQ6_K, "Q6_K", 256, 210, true, true},
    {kIQ4_NL, "IQ4_NL", 32, 18, true, true},
    {kIQ4_XS, "IQ4_XS", 256, 136, true, true},
    {kIQ2_XXS, "IQ2_XXS", 256, 66, true, true},
    {kIQ2_XS, "IQ2_XS", 256, 74, true, true},
    {kIQ2_S, "IQ2_S", 256, 82, true, true},
    {kIQ3_XXS, "IQ3_XXS", 256, 98, true, true},
    {kIQ3_S, "IQ3_S", 256, 110, true, true},
    {kI8, "I8", 1, 1, false, false},
    {kI16, "I16", 1, 2, false, false},
    {kI32, "I32", 1, 4, false, false},
    {kI64, "I64", 1, 8, false, false},
    {kF64, "F64", 1, 8, false, false},
};

template <typename... Blocks>
constexpr bool Match(std::tuple<Blocks...>*) {
  int found = 0;
  for (const WeightTypeInfo& info : kTypes) {
    found += (... + (info.type == Blocks::kType && info.block_size == Blocks::kWeights &&
                     info.block_bytes == sizeof(Blocks) && info.quantized));
  }
  return found == sizeof...(Blocks);
}
static_assert(Match(static_cast<AllBlocks*>(nullptr)), "blocks.h disagrees with the table");

}  // namespace

std::span<const WeightTypeInfo> AllWeightTypes() {
  return kTypes;
}

const WeightTypeInfo* FindWeightType(uint32_t number) {
  for (const WeightTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == number) return &info;
  }
  return nullptr;
}

const WeightTypeInfo& Info(WeightType type) {
  const WeightTypeInfo* info = FindWeightType(static_cast<uint32_t>(type));
  CHECK(info != nullptr);
  return *info;
}

std::optional<WeightType> ParseWeightType(std::string_view name) {
  const std::string text(name);
  if (strcasecmp(text.c_str(), "int8") == 0) return kQ8_0;
  for (const WeightTypeInfo& info : kTypes) {
    if (strcasecmp(text.c_str(), info.name) == 0) return info.type;
  }
  return std::nullopt;
}

size_t RowBytes(WeightType type, int64_t n) {
  const WeightTypeInfo& info = Info(type);
  CHECK(n >= 0 && n % info.block_size == 0);
  return static_cast<size_t>(n / info.block_size) * info.block_bytes;
}

}  // namespace thimble

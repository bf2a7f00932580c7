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
    {kF32, "F32", 1, 4, 0, false, true},
    {kF16, "F16", 1, 2, 0, false, true},
    {kBF16, "BF16", 1, 2, 0, false, true},
    {kQ8_0, "Q8_0", 32, 34, 0, true, true},
    {kQ4_0, "Q4_0", 32, 18, 0, true, true},
    {kQ4_1, "Q4_1", 32, 20, 0, true, true},
    {kQ5_0, "Q5_0", 32, 22, 0, true, true},
    {kQ5_1, "Q5_1", 32, 24, 0, true, true},
    {kQ2_K, "Q2_K", 256, 84, 0, true, true},
    {kQ3_K, "Q3_K", 256, 110, 0, true, true},
    {kQ4_K, "Q4_K", 256, 144, 0, true, true},
    {kQ5_K, "Q5_K", 256, 176, 0, true, true},
    {kQ6_K, "Q6_K", 256, 210, 0, true, true},
    {kIQ4_NL, "IQ4_NL", 32, 18, 0, true, true},
    {kIQ4_XS, "IQ4_XS", 256, 136, 0, true, true},
    {kIQ2_XXS, "IQ2_XXS", 256, 66, 0, true, true},
    {kIQ2_XS, "IQ2_XS", 256, 74, 0, true, true},
    {kIQ2_S, "IQ2_S", 256, 82, 0, true, true},
    {kIQ3_XXS, "IQ3_XXS", 256, 98, 0, true, true},
    {kIQ3_S, "IQ3_S", 256, 110, 0, true, true},
    {kT2, "T2", 64, 17, 9, true, true},
    {kT3, "T3", 64, 25, 13, true, true},
    {kT4, "T4", 64, 33, 17, true, true},
    {kT5, "T5", 64, 41, 21, true, true},
    {kI8, "I8", 1, 1, 0, false, false},
    {kI16, "I16", 1, 2, 0, false, false},
    {kI32, "I32", 1, 4, 0, false, false},
    {kI64, "I64", 1, 8, 0, false, false},
    {kF64, "F64", 1, 8, 0, false, false},
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

int64_t RowUnit(WeightType type) {
  const WeightTypeInfo& info = Info(type);
  return info.half_bytes != 0 ? info.block_size / 2 : info.block_size;
}

size_t RowBytes(WeightType type, int64_t n) {
  const WeightTypeInfo& info = Info(type);
  CHECK(n >= 0 && RowFits(type, n));
  return static_cast<size_t>(n / info.block_size) * info.block_bytes +
         (n % info.block_size != 0 ? info.half_bytes : 0);
}

}  // namespace thimble

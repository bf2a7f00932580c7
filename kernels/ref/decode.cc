// The codec's own decoders, in the shape of the table.
#include "codec/codec.h"
#include "kernels/tiers.h"

namespace thimble::ref {
namespace {

template <WeightType kType>
void Decode(const void* src, float* dst, int64_t n) {
  DecodeRow(kType, src, dst, n);
}

template <WeightType... kTypes>
void Fill(KernelTable* table) {
  ((table->decode_row[static_cast<uint32_t>(kTypes)] = Decode<kTypes>), ...);
}

}  // namespace

void FillDecode(KernelTable* table) {
  using enum WeightType;
  Fill<kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL,
       kIQ4_XS, kIQ2_XXS, kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kT2, kT3, kT4, kT5>(table);
}

}  // namespace thimble::ref

// Integer products by way of decoded weights, accumulated in double precision: the reference of every tier.
#include <math.h>
#include <string.h>

#include "codec/codec.h"
#include "kernels/tiers.h"

namespace thimble::ref {
namespace {

constexpr int64_t kBlock = 32;

void QuantizeBlock(const float* x, ActivationBlock* block) {
  float highest = 0;
  bool finite = true;
  for (int64_t i = 0; i < kBlock; ++i) {
    highest = fabsf(x[i]) > highest ? fabsf(x[i]) : highest;
    finite = finite && isfinite(x[i]);
  }
  // Too small for 127 / highest to be finite: such a block is as good as zero.
  const bool zero = highest < 1e-30f;
  const float inverse = finite && !zero ? 127.0f / highest : 0.0f;
  block->scale = !finite ? NAN : zero ? 0.0f : highest / 127.0f;
  int sums[3] = {};
  for (int i = 0; i < kBlock; ++i) {
    const int q = finite ? static_cast<int>(nearbyintf(x[i] * inverse)) : 0;
    block->q[i] = static_cast<int8_t>(q);
    sums[i / 16] += q;
    sums[2] += q;
  }
  for (int s = 0; s < 3; ++s) {
    block->scaled_sums[s] = block->scale * static_cast<float>(sums[s]);
    block->negated_sums[s] = -sums[s];
  }
  block->unused = 0;
}

void QuantizeActivations(const float* x, ActivationBlock* blocks, int64_t n) {
  for (int64_t i = 0; i < n; i += kBlock) QuantizeBlock(x + i, blocks + i / kBlock);
}

// Rows are "packed" as they are.
template <WeightType kType>
size_t PackedBytes(int64_t k) {
  return (RowBytes(kType, k) + 63) / 64 * 64;
}

template <WeightType kType>
void PackRows(int64_t n_rows, int64_t k, const void* w, size_t, void* packed) {
  if (n_rows > 0) memcpy(packed, w, RowBytes(kType, k));
}

template <WeightType kType>
void MatmulQ(int64_t m, int64_t n_rows, int64_t k, const void* packed, const ActivationBlock* x, int64_t ldx,
             float* y, int64_t ldy) {
  const int64_t step = Info(kType).block_size;
  const size_t step_bytes = Info(kType).block_bytes;
  float decoded[256];
  for (int64_t j = 0; j < n_rows; ++j) {
    const uint8_t* row = static_cast<const uint8_t*>(packed) + static_cast<size_t>(j) * PackedBytes<kType>(k);
    for (int64_t i = 0; i < m; ++i) {
      double sum = 0;
      for (int64_t p = 0; p < k; p += step) {
        const int64_t n = k - p < step ? k - p : step;
        DecodeRow(kType, row + static_cast<size_t>(p / step) * step_bytes, decoded, n);
        for (int64_t q = 0; q < n; ++q) {
          const ActivationBlock& block = x[i * ldx + (p + q) / kBlock];
          sum += static_cast<double>(decoded[q]) * block.q[q % kBlock] * block.scale;
        }
      }
      y[i * ldy + j] = static_cast<float>(sum);
    }
  }
}

template <WeightType kType>
void FillType(KernelTable* table) {
  const size_t type = static_cast<size_t>(kType);
  table->packed_bytes[type] = PackedBytes<kType>;
  table->pack_rows[type] = PackRows<kType>;
  table->matmul_q[type] = MatmulQ<kType>;
}

template <WeightType... kTypes>
void Fill(KernelTable* table) {
  (FillType<kTypes>(table), ...);
}

}  // namespace

void FillActivations(KernelTable* table) {
  table->quantize_activations = QuantizeActivations;
}

void FillMatmulQ(KernelTable* table) {
  using enum WeightType;
  table->packed_rows = 1;
  Fill<kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kIQ2_XXS,
       kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kT2, kT3, kT4, kT5>(table);
}

}  // namespace thimble::ref

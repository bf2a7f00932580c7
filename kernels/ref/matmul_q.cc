// Integer products by way of decoded weights, accumulated in double precision: the reference of every tier.
#include <math.h>

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
  for (int half = 0; half < 2; ++half) {
    int sum = 0;
    for (int i = half * 16; i < half * 16 + 16; ++i) {
      const int q = finite ? static_cast<int>(nearbyintf(x[i] * inverse)) : 0;
      block->q[i] = static_cast<int8_t>(q);
      sum += q;
    }
    block->sums[half] = static_cast<int16_t>(sum);
  }
}

void QuantizeActivations(const float* x, ActivationBlock* blocks, int64_t n) {
  for (int64_t i = 0; i < n; i += kBlock) QuantizeBlock(x + i, blocks + i / kBlock);
}

template <WeightType kType>
void MatmulQ(int64_t m, int64_t n_rows, int64_t k, const void* w, size_t w_stride, const ActivationBlock* x,
             float* y, int64_t ldy) {
  const int64_t step = Info(kType).block_size;
  const size_t step_bytes = Info(kType).block_bytes;
  float decoded[256];
  for (int64_t j = 0; j < n_rows; ++j) {
    const uint8_t* row = static_cast<const uint8_t*>(w) + static_cast<size_t>(j) * w_stride;
    for (int64_t i = 0; i < m; ++i) {
      double sum = 0;
      for (int64_t p = 0; p < k; p += step) {
        DecodeRow(kType, row + static_cast<size_t>(p / step) * step_bytes, decoded, step);
        for (int64_t q = 0; q < step; ++q) {
          const ActivationBlock& block = x[(i * k + p + q) / kBlock];
          sum += static_cast<double>(decoded[q]) * block.q[q % kBlock] * block.scale;
        }
      }
      y[i * ldy + j] = static_cast<float>(sum);
    }
  }
}

template <WeightType... kTypes>
void Fill(KernelTable* table) {
  ((table->matmul_q[static_cast<uint32_t>(kTypes)] = MatmulQ<kTypes>), ...);
}

}  // namespace

void FillMatmulQ(KernelTable* table) {
  using enum WeightType;
  table->quantize_activations = QuantizeActivations;
  Fill<kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS>(table);
}

}  // namespace thimble::ref

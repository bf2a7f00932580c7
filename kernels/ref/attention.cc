// The cache's types number by number, and the online softmax in double precision: the reference of every
// tier.
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "codec/blocks.h"
#include "kernels/tiers.h"

namespace thimble::ref {
namespace {

constexpr int64_t kBlock = 32;

void EncodeF32(const float* x, void* dst, int64_t n) {
  memcpy(dst, x, static_cast<size_t>(n) * sizeof(float));
}

void EncodeF16(const float* x, void* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float cut = x[i] > 65504.0f ? 65504.0f : x[i] < -65504.0f ? -65504.0f : x[i];
    const uint16_t half = FloatToHalf(cut);
    memcpy(static_cast<uint8_t*>(dst) + 2 * i, &half, 2);
  }
}

// The number of largest magnitude in a block; NaN where a number is not finite.
float Extreme(const float* x) {
  float extreme = 0;
  for (int64_t i = 0; i < kBlock; ++i) {
    if (!isfinite(x[i])) return NAN;
    if (fabsf(x[i]) > fabsf(extreme) || x[i] == -fabsf(extreme)) extreme = x[i];
  }
  return extreme;
}

// `scale` as F16; what to multiply numbers with to get codes.
float Inverse(float scale, uint16_t* half) {
  const float cut = fabsf(scale) > 65504.0f ? copysignf(65504.0f, scale) : scale;
  *half = isnan(scale) ? 0x7e00 : FloatToHalf(cut);
  return fabsf(scale) >= 0x1p-26f ? 1 / scale : 0.0f;  // below, F16 has no scale
}

void EncodeQ8_0(const float* x, void* dst, int64_t n) {
  auto* block = static_cast<BlockQ8_0*>(dst);
  for (int64_t b = 0; b < n; b += kBlock, ++block) {
    const float inverse = Inverse(fabsf(Extreme(x + b)) / 127, &block->d);
    for (int64_t i = 0; i < kBlock; ++i) {
      block->qs[i] = inverse == 0 ? 0 : static_cast<int8_t>(nearbyintf(x[b + i] * inverse));
    }
  }
}

void EncodeQ4_0(const float* x, void* dst, int64_t n) {
  auto* block = static_cast<BlockQ4_0*>(dst);
  for (int64_t b = 0; b < n; b += kBlock, ++block) {
    const float inverse = Inverse(Extreme(x + b) / -8, &block->d);
    const auto code = [&](int64_t i) {
      const int q = inverse == 0 ? 8 : static_cast<int>(nearbyintf(x[b + i] * inverse)) + 8;
      return q > 15 ? 15 : q;
    };
    for (int64_t i = 0; i < 16; ++i) block->qs[i] = static_cast<uint8_t>(code(i) | code(i + 16) << 4);
  }
}

float HalfAt(const uint8_t* p) {
  uint16_t half;
  memcpy(&half, p, 2);
  return HalfToFloat(half);
}

void DecodeKeysF32(const void* block, float* dst, int64_t head_dim) {
  memcpy(dst, block, static_cast<size_t>(head_dim * kKeyBlock) * sizeof(float));
}

void DecodeKeysF16(const void* block, float* dst, int64_t head_dim) {
  const auto* p = static_cast<const uint8_t*>(block);
  for (int64_t i = 0; i < head_dim * kKeyBlock; ++i) dst[i] = HalfAt(p + 2 * i);
}

// kBits per code, code - kOffset times the scale.
template <int kBits, int kOffset>
void DecodeKeys(const void* block, float* dst, int64_t head_dim) {
  const int64_t group_bytes = kKeyBlock * (2 + kBlock * kBits / 8), code_rows = kBlock * kBits / 8;
  for (int64_t d = 0; d < head_dim; ++d) {
    const uint8_t* scales = static_cast<const uint8_t*>(block) + d / kBlock * group_bytes;
    const uint8_t* codes = scales + (2 + d % kBlock % code_rows) * kKeyBlock;
    for (int64_t j = 0; j < kKeyBlock; ++j) {
      const int code = kBits == 8               ? static_cast<int8_t>(codes[j])
                       : d % kBlock < code_rows ? codes[j] & 15
                                                : codes[j] >> 4;
      dst[d * kKeyBlock + j] = HalfAt(scales + 2 * j) * static_cast<float>(code - kOffset);
    }
  }
}

void SoftmaxStep(int64_t rows, float* scores, const VisibleKeys* visible, float* max, float* sum, float* out,
                 int64_t n) {
  for (int64_t r = 0; r < rows; ++r, scores += kKeyBlock, out += n) {
    float highest = max[r];
    for (int j = visible[r].begin; j < visible[r].end; ++j) {
      if (!(scores[j] <= highest)) highest = scores[j];  // NaN too
    }
    // Nothing seen so far, or all of it -infinity.
    const double keep = highest == -INFINITY ? 1.0 : exp(static_cast<double>(max[r]) - highest);
    double total = 0;
    for (int j = 0; j < kKeyBlock; ++j) {
      const bool seen = j >= visible[r].begin && j < visible[r].end && highest != -INFINITY;
      const double e = seen ? exp(static_cast<double>(scores[j]) - highest) : 0.0;
      scores[j] = static_cast<float>(e);
      total += e;
    }
    max[r] = highest;
    sum[r] = static_cast<float>(sum[r] * keep + total);
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(out[i] * keep);
  }
}

void SoftmaxGradient(int64_t rows, float* scores, float* dscores, const VisibleKeys* visible,
                     const float* log_sums, const float* sums) {
  for (int64_t r = 0; r < rows; ++r, scores += kKeyBlock, dscores += kKeyBlock) {
    for (int j = 0; j < kKeyBlock; ++j) {
      const bool seen = j >= visible[r].begin && j < visible[r].end && log_sums[r] != -INFINITY;
      const double p = seen ? exp(static_cast<double>(scores[j]) - log_sums[r]) : 0.0;
      dscores[j] = seen ? static_cast<float>(p * (static_cast<double>(dscores[j]) - sums[r])) : 0.0f;
      scores[j] = static_cast<float>(p);
    }
  }
}

}  // namespace

void FillAttention(KernelTable* table) {
  constexpr int kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ8_0 = 8;  // GGUF's numbers
  table->encode_row[kF32] = EncodeF32;
  table->encode_row[kF16] = EncodeF16;
  table->encode_row[kQ8_0] = EncodeQ8_0;
  table->encode_row[kQ4_0] = EncodeQ4_0;
  table->decode_keys[kF32] = DecodeKeysF32;
  table->decode_keys[kF16] = DecodeKeysF16;
  table->decode_keys[kQ8_0] = DecodeKeys<8, 0>;
  table->decode_keys[kQ4_0] = DecodeKeys<4, 8>;
  table->softmax_step = SoftmaxStep;
  table->softmax_gradient = SoftmaxGradient;
}

}  // namespace thimble::ref

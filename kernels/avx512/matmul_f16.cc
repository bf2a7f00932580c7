// F16 weights by integer products: VNNI multiplies twice as many 16-bit integers as FMA multiplies floats.
// Blocks of 32 weights and of 32 activations are integers of 13 bits and a sign with a scale each, so that
// the sums of a block fit int32. A weight within a factor of four of its block's largest is exact; the
// others, and the activations, are rounded to within 2^-14 of their block's largest, much as F16 would round
// the activations.
//
// A packed group is 16 rows: two columns of each side by side, then a power of two for each block of each
// row, in BF16. A product adds up its blocks in their order, whatever the number of activation rows: results
// do not depend on it.
#include <math.h>

#include "kernels/avx512/simd.h"
#include "kernels/tiers.h"

namespace thimble::avx512 {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kVectors = 16;  // of a block
constexpr int64_t kBlockBytes = kVectors * 64;
constexpr int64_t kBlockBits = 13;
constexpr int64_t kActivationBytes = 384
                                     << 10;  // of rows that are gone through group by group, to stay in cache
constexpr int64_t kPrefetchDistance = 16384;  // bytes
constexpr int kMaxColumns = 12;               // activation rows of a tile: one accumulator each

size_t PackedBytes(int64_t k) {
  return static_cast<size_t>(k / 32 * (kBlockBytes + 2 * kRows) + 63) / 64 * 64;
}

// 32 weights as integers; returns their scale, as BF16.
uint16_t PackBlock(const uint8_t* w, int16_t* q) {
  const Vec first = VecLoadF16(w), second = VecLoadF16(w + 32);
  const float largest = VecMaxLane(VecMax(_mm512_abs_ps(first), _mm512_abs_ps(second)));
  // A sum is not finite if one of its terms is not.
  const bool finite = VecSum(VecMul(VecAdd(first, second), VecZero())) == 0.0f;
  if (!finite || largest == 0.0f) {
    memset(q, 0, 64);
    return finite ? 0 : 0x7fc0;
  }
  int exponent;
  frexpf(largest, &exponent);
  const Vec factor = VecSet(ldexpf(1.0f, static_cast<int>(kBlockBits) - exponent));
  _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(q),
                      _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(VecMul(first, factor))));
  _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(q + 16),
                      _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(VecMul(second, factor))));
  return static_cast<uint16_t>((127 + exponent - kBlockBits) << 7);
}

void PackRows(int64_t n_rows, int64_t k, const void* w, size_t w_stride, void* packed) {
  uint8_t* const out = static_cast<uint8_t*>(packed);
  if (n_rows < kRows) memset(out, 0, PackedBytes(k));
  const int64_t n_blocks = k / 32;
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int64_t r = 0; r < n_rows; ++r) {
      int16_t q[32];
      const uint16_t scale =
          PackBlock(static_cast<const uint8_t*>(w) + static_cast<size_t>(r) * w_stride + b * 64, q);
      for (int64_t v = 0; v < kVectors; ++v) memcpy(out + b * kBlockBytes + v * 64 + r * 4, q + 2 * v, 4);
      memcpy(out + n_blocks * kBlockBytes + (b * kRows + r) * 2, &scale, 2);
    }
  }
}

void QuantizeActivations(const float* x, ActivationBlock16* blocks, int64_t n) {
  constexpr float kMost = (1 << kBlockBits) - 1;
  for (int64_t i = 0; i < n; i += 32, ++blocks) {
    const Vec first = VecLoad(x + i), second = VecLoad(x + i + 16);
    // The bits of magnitudes order as integers; infinity and NaN come last.
    const int32_t bits = _mm512_reduce_max_epi32(_mm512_max_epi32(
        _mm512_castps_si512(_mm512_abs_ps(first)), _mm512_castps_si512(_mm512_abs_ps(second))));
    const bool finite = bits < 0x7f800000;
    const float largest = LoadAs<float>(&bits);
    const bool zero = largest < 1e-30f;
    const Vec factor = VecSet(finite && !zero ? kMost / largest : 0.0f);
    blocks->scale = !finite ? NAN : zero ? 0.0f : largest / kMost;
    if (!finite) {
      memset(blocks->q, 0, sizeof(blocks->q));
      continue;
    }
    __m256i_u* const q = reinterpret_cast<__m256i_u*>(blocks->q);
    _mm256_storeu_si256(q, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(VecMul(first, factor))));
    _mm256_storeu_si256(q + 1, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(VecMul(second, factor))));
  }
}

// y[c * ldy + r] = row r of the group * activation row c. `ldx` is the distance between activation rows in
// blocks.
template <int kColumns>
void Tile(const uint8_t* packed, int64_t n_blocks, const ActivationBlock16* x, int64_t ldx, float* y,
          int64_t ldy, __mmask16 rows) {
  Vec acc[kColumns];
  THIMBLE_UNROLL
  for (int c = 0; c < kColumns; ++c) acc[c] = VecZero();
  const uint8_t* const scales = packed + n_blocks * kBlockBytes;
  for (int64_t b = 0; b < n_blocks; ++b, packed += kBlockBytes) {
    if constexpr (kColumns == 1) {
      THIMBLE_UNROLL
      for (int64_t line = 0; line < kBlockBytes; line += 64)
        __builtin_prefetch(packed + kPrefetchDistance + line);
    }
    __m512i w[kVectors];
    THIMBLE_UNROLL
    for (int64_t v = 0; v < kVectors; ++v) w[v] = _mm512_load_si512(packed + v * 64);
    const Vec scale = VecLoadBf16(scales + b * 2 * kRows);
    constexpr int kTogether =
        kColumns % 2 == 0 ? 2 : 1;  // sums that take turns: each waits for its last product
    THIMBLE_UNROLL
    for (int c = 0; c < kColumns; c += kTogether) {
      __m512i dot[kTogether];
      THIMBLE_UNROLL
      for (int i = 0; i < kTogether; ++i) dot[i] = _mm512_setzero_si512();
      THIMBLE_UNROLL
      for (int64_t v = 0; v < kVectors; ++v) {
        THIMBLE_UNROLL
        for (int i = 0; i < kTogether; ++i) {
          const int16_t* q = x[(c + i) * ldx + b].q;
          dot[i] = _mm512_dpwssd_epi32(dot[i], w[v], _mm512_set1_epi32(LoadAs<int32_t>(q + 2 * v)));
        }
      }
      THIMBLE_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        acc[c + i] =
            VecFma(_mm512_cvtepi32_ps(dot[i]), VecMul(scale, VecSet(x[(c + i) * ldx + b].scale)), acc[c + i]);
      }
    }
  }
  THIMBLE_UNROLL
  for (int c = 0; c < kColumns; ++c) _mm512_mask_storeu_ps(y + c * ldy, rows, acc[c]);
}

void MatmulF16(int64_t m, int64_t n_rows, int64_t k, const void* packed, const ActivationBlock16* x,
               int64_t ldx, float* y, int64_t ldy) {
  const int64_t n_blocks = k / 32, row_bytes = ldx * static_cast<int64_t>(sizeof(ActivationBlock16));
  const int64_t step = (kActivationBytes / row_bytes / kMaxColumns + 1) * kMaxColumns;
  for (int64_t i = 0; i < m; i += step) {
    const int64_t columns = m - i < step ? m - i : step;
    const uint8_t* group = static_cast<const uint8_t*>(packed);
    for (int64_t j = 0; j < n_rows; j += kRows, group += PackedBytes(k)) {
      const __mmask16 rows = FirstLanes(n_rows - j < kRows ? n_rows - j : kRows);
      int64_t c = 0;
      const auto tiles = [&](auto tile, int64_t width) {
        for (; c + width <= columns; c += width) {
          tile(group, n_blocks, x + (i + c) * ldx, ldx, y + (i + c) * ldy + j, ldy, rows);
        }
      };
      tiles(Tile<kMaxColumns>, kMaxColumns);
      tiles(Tile<4>, 4);
      tiles(Tile<1>, 1);
    }
  }
}

}  // namespace

void FillMatmulF16(KernelTable* table) {
  constexpr int kF16 = 1;  // GGUF's number
  table->packed_bytes[kF16] = PackedBytes;
  table->pack_rows[kF16] = PackRows;
  table->quantize_activations16 = QuantizeActivations;
  table->matmul_f16 = MatmulF16;
}

}  // namespace thimble::avx512

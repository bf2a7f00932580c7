// AVX-512 with BF16: two products summed to float in one instruction, twice as many as FMA makes. The rest is
// as in kernels/avx512.
//
// A packed group is 16 rows, two columns of each side by side: as vdpbf16ps takes them. A product adds up
// even and odd pairs of columns apart, stretch by stretch, whatever the number of activation rows: results do
// not depend on it.
#include <immintrin.h>
#include <string.h>

#include "kernels/generic/macros.h"
#include "kernels/tiers.h"

namespace thimble::avx512_bf16 {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kStretch = 1024;  // columns; a multiple of 4
constexpr int64_t kActivationBytes = 256
                                     << 10;  // of rows that are gone through group by group, to stay in cache
constexpr int kMaxColumns = 12;              // activation rows of a tile: two accumulators each

size_t PackedBytes(int64_t k) {
  return static_cast<size_t>(k / 2) * 4 * kRows;
}

void PackRows(int64_t n_rows, int64_t k, const void* w, size_t w_stride, void* packed) {
  uint8_t* const out = static_cast<uint8_t*>(packed);
  if (n_rows < kRows) memset(out, 0, PackedBytes(k));
  for (int64_t p = 0; p < k / 2; ++p) {
    for (int64_t r = 0; r < n_rows; ++r) {
      memcpy(out + (p * kRows + r) * 4,
             static_cast<const uint8_t*>(w) + static_cast<size_t>(r) * w_stride + p * 4, 4);
    }
  }
}

void RoundActivations(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1 << (n - i)) - 1);
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
    _mm256_mask_storeu_epi16(y + i, mask, reinterpret_cast<__m256i>(rounded));
  }
}

THIMBLE_INLINE __m512 Dot(__m512 acc, __m512i w, const uint16_t* x) {
  const __m512i pair = _mm512_set1_epi32(LoadAs<int32_t>(x));
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(pair));
}

// y[c * ldy + r] (+)= row r of the group * activation row c, over k columns.
template <int kColumns>
void Tile(const uint8_t* packed, int64_t k, const uint16_t* x, int64_t ldx, float* y, int64_t ldy,
          __mmask16 rows, bool accumulate) {
  __m512 even[kColumns], odd[kColumns];
  THIMBLE_UNROLL
  for (int c = 0; c < kColumns; ++c) even[c] = odd[c] = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 4 <= k; i += 4, packed += 8 * kRows) {
    const __m512i w = _mm512_loadu_si512(packed), v = _mm512_loadu_si512(packed + 4 * kRows);
    THIMBLE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      even[c] = Dot(even[c], w, x + c * ldx + i);
      odd[c] = Dot(odd[c], v, x + c * ldx + i + 2);
    }
  }
  if (i < k) {
    const __m512i w = _mm512_loadu_si512(packed);
    THIMBLE_UNROLL
    for (int c = 0; c < kColumns; ++c) even[c] = Dot(even[c], w, x + c * ldx + i);
  }
  THIMBLE_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    __m512 sum = _mm512_add_ps(even[c], odd[c]);
    if (accumulate) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(rows, y + c * ldy));
    _mm512_mask_storeu_ps(y + c * ldy, rows, sum);
  }
}

void MatmulBf16(int64_t m, int64_t n_rows, int64_t k, const void* packed, const uint16_t* x, int64_t ldx,
                float* y, int64_t ldy) {
  const int64_t step = (kActivationBytes / 2 / k / kMaxColumns + 1) * kMaxColumns;
  for (int64_t i = 0; i < m; i += step) {
    const int64_t rows = m - i < step ? m - i : step;
    const uint8_t* group = static_cast<const uint8_t*>(packed);
    for (int64_t j = 0; j < n_rows; j += kRows, group += PackedBytes(k)) {
      const __mmask16 mask = static_cast<__mmask16>(n_rows - j >= kRows ? 0xffff : (1 << (n_rows - j)) - 1);
      for (int64_t p = 0; p < k; p += kStretch) {
        const int64_t columns = k - p < kStretch ? k - p : kStretch;
        int64_t c = 0;
        const auto tiles = [&](auto tile, int64_t width) {
          for (; c + width <= rows; c += width) {
            tile(group + p * 2 * kRows, columns, x + (i + c) * ldx + p, ldx, y + (i + c) * ldy + j, ldy, mask,
                 p > 0);
          }
        };
        tiles(Tile<kMaxColumns>, kMaxColumns);
        tiles(Tile<4>, 4);
        tiles(Tile<1>, 1);
      }
    }
  }
}

}  // namespace

void FillMatmulBf16(KernelTable* table) {
  constexpr int kBf16 = 30;  // GGUF's number
  table->packed_bytes[kBf16] = PackedBytes;
  table->pack_rows[kBf16] = PackRows;
  table->round_activations = RoundActivations;
  table->matmul_bf16 = MatmulBf16;
}

}  // namespace thimble::avx512_bf16

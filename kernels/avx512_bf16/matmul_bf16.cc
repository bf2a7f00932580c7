// AVX-512 with BF16: two products summed to float in one instruction, twice as many as FMA makes. The rest is
// as in kernels/avx512.
//
// A packed group is 16 rows, two columns of each side by side: as vdpbf16ps takes them. A product adds up
// even and odd pairs of columns apart, stretch by stretch, whatever the number of activation rows: results do
// not depend on it.
#include "kernels/avx512/simd.h"
#include "kernels/tiers.h"

namespace thimble::avx512_bf16 {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kStretch = 1024;  // columns; a multiple of 4
constexpr int64_t kActivationBytes = 256
                                     << 10;  // of rows that are gone through group by group, to stay in cache
constexpr int kMaxColumns = 12;              // activation rows of a tile: two accumulators each

THIMBLE_INLINE __mmask16 First(int64_t n) {
  return FirstLanes(n < 0 ? 0 : n < kLanes ? n : kLanes);
}

size_t PackedBytes(int64_t k) {
  return static_cast<size_t>(k / 2) * 4 * kRows;
}

// A group of n_rows rows of k numbers; load_pairs(row, p, n) gives n <= 16 pairs of columns of one from pair
// p on.
template <typename LoadPairs>
THIMBLE_INLINE void PackGroup(int64_t n_rows, int64_t k, void* packed, const LoadPairs& load_pairs) {
  uint8_t* out = static_cast<uint8_t*>(packed);
  for (int64_t p = 0; p < k / 2; p += kRows, out += 4 * kRows * kRows) {
    const int64_t n = k / 2 - p < kRows ? k / 2 - p : kRows;
    Vec pairs[kRows];
    THIMBLE_UNROLL
    for (int r = 0; r < kRows; ++r) pairs[r] = r < n_rows ? load_pairs(r, p, n) : VecZero();
    VecTranspose(pairs);
    THIMBLE_UNROLL
    for (int i = 0; i < kRows; ++i) {
      if (i < n) _mm512_storeu_ps(out + i * 4 * kRows, pairs[i]);
    }
  }
}

void PackRows(int64_t n_rows, int64_t k, const void* w, size_t w_stride, void* packed) {
  PackGroup(n_rows, k, packed, [&](int r, int64_t p, int64_t n) {
    return _mm512_maskz_loadu_ps(First(n),
                                 static_cast<const uint8_t*>(w) + static_cast<size_t>(r) * w_stride + 4 * p);
  });
}

void PackRowsF32(int64_t n_rows, int64_t k, const float* w, int64_t ldw, void* packed) {
  PackGroup(n_rows, k, packed, [&](int r, int64_t p, int64_t n) {
    const float* const row = w + r * ldw + 2 * p;
    return reinterpret_cast<Vec>(_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(First(2 * n - 16), row + 16),
                                                     _mm512_maskz_loadu_ps(First(2 * n), row)));
  });
}

void PackColumns(int64_t first, int64_t n, int64_t n_columns, const float* w, int64_t ldw, void* packed,
                 size_t group_bytes) {
  // Numbers 0 and 16, 1 and 17, ... side by side.
  alignas(64) static constexpr uint16_t kPairs[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i pairs = _mm512_load_si512(kPairs);
  for (int64_t i = 0; i < n; i += 2, w += 2 * ldw) {
    uint8_t* out = static_cast<uint8_t*>(packed) + (first + i) * 2 * kRows;
    for (int64_t j = 0; j < n_columns; j += kRows, out += group_bytes) {
      const __mmask16 mask = First(n_columns - j);
      const __m512bh both =
          _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(mask, w + ldw + j), _mm512_maskz_loadu_ps(mask, w + j));
      _mm512_storeu_si512(out, _mm512_permutexvar_epi16(pairs, reinterpret_cast<__m512i>(both)));
    }
  }
}

void RoundActivations(const float* x, uint16_t* y, int64_t n) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i));
    _mm512_storeu_si512(y + i, reinterpret_cast<__m512i>(rounded));
  }
  for (; i < n; i += 16) {
    const __mmask16 mask = First(n - i);
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
                float* y, int64_t ldy, bool accumulate) {
  const int64_t step = (kActivationBytes / 2 / k / kMaxColumns + 1) * kMaxColumns;
  for (int64_t i = 0; i < m; i += step) {
    const int64_t rows = m - i < step ? m - i : step;
    const uint8_t* group = static_cast<const uint8_t*>(packed);
    for (int64_t j = 0; j < n_rows; j += kRows, group += PackedBytes(k)) {
      const __mmask16 mask = First(n_rows - j);
      for (int64_t p = 0; p < k; p += kStretch) {
        const int64_t columns = k - p < kStretch ? k - p : kStretch;
        int64_t c = 0;
        const auto tiles = [&](auto tile, int64_t width) {
          for (; c + width <= rows; c += width) {
            tile(group + p * 2 * kRows, columns, x + (i + c) * ldx + p, ldx, y + (i + c) * ldy + j, ldy, mask,
                 accumulate || p > 0);
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
  table->pack_rows_bf16 = PackRowsF32;
  table->pack_columns_bf16 = PackColumns;
}

}  // namespace thimble::avx512_bf16

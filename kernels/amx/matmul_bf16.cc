// AMX with BF16, on weights that are packed as for AVX-512 with BF16. Every number of activation rows goes
// through tiles, whose rows are multiplied apart: a product does not depend on the other rows.
#include "kernels/amx/tiles.h"
#include "kernels/tiers.h"

#ifndef THIMBLE_TIER
#define THIMBLE_TIER amx
#endif

namespace thimble {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kTileDepth = 16;  // pairs of columns

// sums[kTileRows][kRows] = x[n_columns][ldx] * the group's rows over k columns, with zeros for the rows that
// x lacks.
void GroupProduct(const uint8_t* packed, int64_t k, const uint16_t* x, int64_t ldx, int64_t n_columns,
                  float* sums) {
  TileZeroSums();
  for (int64_t p = 0; p < k; p += 2 * kTileDepth) {
    const int64_t columns = k - p < 2 * kTileDepth ? k - p : 2 * kTileDepth;
    if (columns == 2 * kTileDepth && n_columns == kTileRows) {
      TileLoadActivations(x + p, ldx * 2);
      TileLoadWeights(packed + p * 2 * kRows, 4 * kRows);
    } else {
      alignas(64) uint16_t a[kTileRows][2 * kTileDepth] = {};
      alignas(64) uint8_t b[kTileDepth][4 * kRows] = {};
      for (int64_t c = 0; c < n_columns; ++c) memcpy(a[c], x + c * ldx + p, static_cast<size_t>(columns) * 2);
      memcpy(b, packed + p * 2 * kRows, static_cast<size_t>(columns) * 2 * kRows);
      TileLoadActivations(a, sizeof(a[0]));
      TileLoadWeights(b, sizeof(b[0]));
    }
    TileDotBf16();
  }
  TileStoreSums(sums, 4 * kRows);
}

void MatmulBf16(int64_t m, int64_t n_rows, int64_t k, const void* packed, const uint16_t* x, int64_t ldx,
                float* y, int64_t ldy) {
  LoadTileConfig(TileConfig(kTileDepth));
  const int64_t group_bytes = k * 2 * kRows;
  alignas(64) float sums[kTileRows * kRows];
  for (int64_t j = 0; j < n_rows; j += kRows) {
    const int64_t rows = n_rows - j < kRows ? n_rows - j : kRows;
    for (int64_t i = 0; i < m; i += kTileRows) {
      const int64_t columns = m - i < kTileRows ? m - i : kTileRows;
      GroupProduct(static_cast<const uint8_t*>(packed) + j / kRows * group_bytes, k, x + i * ldx, ldx,
                   columns, sums);
      for (int64_t c = 0; c < columns; ++c) {
        memcpy(y + (i + c) * ldy + j, sums + c * kRows, static_cast<size_t>(rows) * sizeof(float));
      }
    }
  }
  ReleaseTiles();
}

}  // namespace

namespace THIMBLE_TIER {

void FillMatmulBf16(KernelTable* table) {
  table->matmul_bf16 = MatmulBf16;
}

}  // namespace THIMBLE_TIER
}  // namespace thimble

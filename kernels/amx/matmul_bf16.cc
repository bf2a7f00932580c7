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
// Two tiles' rows of activations over a stretch of columns stay in the first-level cache while weights stream
// by; the sums of a few of those stay in the second while the stretches follow one another.
constexpr int64_t kStretch = 320;  // columns
constexpr int64_t kRowsAtOnce = 64;

// Groups of weight rows, `group_bytes` apart, and n_columns activation rows, over k columns of both.
struct Operands {
  const uint8_t* packed;
  int64_t group_bytes;
  const uint16_t* x;
  int64_t ldx, n_columns, k;
};

// kA * kB tiles' worth of the columns' products from p on.
template <int kA, int kB>
THIMBLE_INLINE void DotTiles(const uint16_t* x, int64_t x_bytes, const uint8_t* packed, int64_t group_bytes) {
  LoadTile<kActivationTiles>(x, x_bytes);
  LoadTile<kWeightTiles>(packed, 4 * kRows);
  DotTileBf16<kSumTiles, kActivationTiles, kWeightTiles>();
  if constexpr (kB == 2) {
    LoadTile<kWeightTiles + 1>(packed + group_bytes, 4 * kRows);
    DotTileBf16<kSumTiles + 1, kActivationTiles, kWeightTiles + 1>();
  }
  if constexpr (kA == 2) {
    LoadTile<kActivationTiles + 1>(x + kTileRows * x_bytes / 2, x_bytes);
    DotTileBf16<kSumTiles + 2, kActivationTiles + 1, kWeightTiles>();
  }
  if constexpr (kA == 2 && kB == 2) DotTileBf16<kSumTiles + 3, kActivationTiles + 1, kWeightTiles + 1>();
}

template <int kA, int kB>
THIMBLE_INLINE void ZeroSums() {
  ZeroTile<kSumTiles>();
  if constexpr (kB == 2) ZeroTile<kSumTiles + 1>();
  if constexpr (kA == 2) ZeroTile<kSumTiles + 2>();
  if constexpr (kA == 2 && kB == 2) ZeroTile<kSumTiles + 3>();
}

template <int kA, int kB>
THIMBLE_INLINE void LoadSums(const float* y, int64_t ldy) {
  LoadTile<kSumTiles>(y, 4 * ldy);
  if constexpr (kB == 2) LoadTile<kSumTiles + 1>(y + kRows, 4 * ldy);
  if constexpr (kA == 2) LoadTile<kSumTiles + 2>(y + kTileRows * ldy, 4 * ldy);
  if constexpr (kA == 2 && kB == 2) LoadTile<kSumTiles + 3>(y + kTileRows * ldy + kRows, 4 * ldy);
}

template <int kA, int kB>
THIMBLE_INLINE void StoreSums(float* y, int64_t ldy) {
  StoreTile<kSumTiles>(y, 4 * ldy);
  if constexpr (kB == 2) StoreTile<kSumTiles + 1>(y + kRows, 4 * ldy);
  if constexpr (kA == 2) StoreTile<kSumTiles + 2>(y + kTileRows * ldy, 4 * ldy);
  if constexpr (kA == 2 && kB == 2) StoreTile<kSumTiles + 3>(y + kTileRows * ldy + kRows, 4 * ldy);
}

// The sums += kA tiles of activation rows with kB groups of weight rows.
template <int kA, int kB>
THIMBLE_INLINE void AddProduct(const Operands& o) {
  int64_t p = 0;
  for (; p + 2 * kTileDepth <= o.k; p += 2 * kTileDepth) {
    DotTiles<kA, kB>(o.x + p, 2 * o.ldx, o.packed + p * 2 * kRows, o.group_bytes);
  }
  if (p == o.k) return;
  alignas(64) uint16_t a[kA * kTileRows][2 * kTileDepth] = {};
  alignas(64) uint8_t b[kB][kTileDepth][4 * kRows] = {};
  const size_t columns = static_cast<size_t>(o.k - p);
  for (int64_t c = 0; c < o.n_columns; ++c) memcpy(a[c], o.x + c * o.ldx + p, columns * 2);
  for (int g = 0; g < kB; ++g)
    memcpy(b[g], o.packed + g * o.group_bytes + p * 2 * kRows, columns * 2 * kRows);
  DotTiles<kA, kB>(a[0], sizeof(a[0]), b[0][0], sizeof(b[0]));
}

// y[o.n_columns][n_rows] (+)= that product; the last group may have more rows than are wanted.
template <int kA, int kB>
void Product(const Operands& o, float* y, int64_t ldy, int64_t n_rows, bool accumulate) {
  if (n_rows == kB * kRows) {
    if (accumulate) {
      LoadSums<kA, kB>(y, ldy);
    } else {
      ZeroSums<kA, kB>();
    }
    AddProduct<kA, kB>(o);
    return StoreSums<kA, kB>(y, ldy);
  }
  alignas(64) float sums[kA * kTileRows][kB * kRows] = {};
  const size_t bytes = static_cast<size_t>(n_rows) * sizeof(float);
  for (int64_t c = 0; accumulate && c < o.n_columns; ++c) memcpy(sums[c], y + c * ldy, bytes);
  LoadSums<kA, kB>(sums[0], kB * kRows);
  AddProduct<kA, kB>(o);
  StoreSums<kA, kB>(sums[0], kB * kRows);
  for (int64_t c = 0; c < o.n_columns; ++c) memcpy(y + c * ldy, sums[c], bytes);
}

// Some columns of a product of n activation rows, at most kA tiles, with all weight rows.
template <int kA>
void Rows(Operands o, int64_t n_rows, float* y, int64_t ldy, bool accumulate) {
  for (int64_t j = 0; j < n_rows; j += 2 * kRows, o.packed += 2 * o.group_bytes) {
    const int64_t left = n_rows - j;
    if (left > kRows) {
      Product<kA, 2>(o, y + j, ldy, left < 2 * kRows ? left : 2 * kRows, accumulate);
    } else {
      Product<kA, 1>(o, y + j, ldy, left, accumulate);
    }
  }
}

void MatmulBf16(int64_t m, int64_t n_rows, int64_t k, const void* packed, const uint16_t* x, int64_t ldx,
                float* y, int64_t ldy, bool accumulate) {
  LoadTileConfig(TileConfig(kTileRows, kTileDepth));
  for (int64_t first = 0; first < m; first += kRowsAtOnce) {
    const int64_t last = m - first < kRowsAtOnce ? m : first + kRowsAtOnce;
    for (int64_t p = 0; p < k; p += kStretch) {
      const int64_t columns = k - p < kStretch ? k - p : kStretch;
      const auto operands = [&](int64_t i, int64_t n) {
        return Operands{static_cast<const uint8_t*>(packed) + p * 2 * kRows,
                        k * 2 * kRows,
                        x + i * ldx + p,
                        ldx,
                        n,
                        columns};
      };
      const bool add = accumulate || p > 0;
      int64_t i = first;
      for (; i + 2 * kTileRows <= last; i += 2 * kTileRows)
        Rows<2>(operands(i, 2 * kTileRows), n_rows, y + i * ldy, ldy, add);
      if (i + kTileRows <= last) {
        Rows<1>(operands(i, kTileRows), n_rows, y + i * ldy, ldy, add);
        i += kTileRows;
      }
      if (i == last) continue;
      LoadTileConfig(TileConfig(last - i, kTileDepth));
      Rows<1>(operands(i, last - i), n_rows, y + i * ldy, ldy, add);
      if (columns < k) LoadTileConfig(TileConfig(kTileRows, kTileDepth));
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

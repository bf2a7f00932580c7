// Matrix tiles: 16 rows of 64 bytes (Intel Architecture Instruction Set Extensions, chapter 3). With
// THIMBLE_EMULATE_TILES the same functions in plain code, so that what is around them can be tested anywhere.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/generic/macros.h"

namespace thimble {

constexpr int kTileRows = 16;

// Tile 0 holds sums [16][16], tiles 1 and 2 the operands of 16 x 16 sums over `depth` groups of four bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  THIMBLE_MEMBER explicit TileConfig(int depth) {
    const int widths[3] = {64, 4 * depth, 64}, heights[3] = {kTileRows, kTileRows, depth};
    for (int i = 0; i < 3; ++i) {
      row_bytes[i] = static_cast<uint16_t>(widths[i]);
      rows[i] = static_cast<uint8_t>(heights[i]);
    }
  }
};
static_assert(sizeof(TileConfig) == 64);

#if defined(THIMBLE_EMULATE_TILES)
static thread_local TileConfig tile_config(16);
static thread_local uint8_t tiles[3][kTileRows * 64];

THIMBLE_INLINE void LoadTileConfig(const TileConfig& config) {
  tile_config = config;
}
THIMBLE_INLINE void ReleaseTiles() {}
THIMBLE_INLINE void TileZeroSums() {
  memset(tiles[0], 0, sizeof(tiles[0]));
}
THIMBLE_INLINE void LoadTile(int tile, const void* p, int64_t stride) {
  memset(tiles[tile], 0, sizeof(tiles[tile]));
  for (int i = 0; i < tile_config.rows[tile]; ++i) {
    memcpy(tiles[tile] + 64 * i, static_cast<const uint8_t*>(p) + i * stride, tile_config.row_bytes[tile]);
  }
}
THIMBLE_INLINE void TileLoadActivations(const void* p, int64_t stride) {
  LoadTile(1, p, stride);
}
THIMBLE_INLINE void TileLoadWeights(const void* p, int64_t stride) {
  LoadTile(2, p, stride);
}
THIMBLE_INLINE void TileStoreSums(void* p, int64_t stride) {
  for (int i = 0; i < tile_config.rows[0]; ++i) {
    memcpy(static_cast<uint8_t*>(p) + i * stride, tiles[0] + 64 * i, tile_config.row_bytes[0]);
  }
}
// Adds the products of the elements of a group, four or two, in the order in which they stand.
template <typename Sum, int kElements, typename Product>
THIMBLE_INLINE void TileMultiply(const Product& product) {
  for (int i = 0; i < tile_config.rows[0]; ++i) {
    for (int j = 0; j < tile_config.row_bytes[0] / 4; ++j) {
      Sum sum = LoadAs<Sum>(tiles[0] + 64 * i + 4 * j);
      for (int k = 0; k < tile_config.rows[2]; ++k) {
        for (int e = 0; e < kElements; ++e) {
          sum += product(tiles[1] + 64 * i + 4 * k + 4 / kElements * e,
                         tiles[2] + 64 * k + 4 * j + 4 / kElements * e);
        }
      }
      memcpy(tiles[0] + 64 * i + 4 * j, &sum, 4);
    }
  }
}
// Signed bytes of tile 1 with unsigned ones of tile 2.
THIMBLE_INLINE void TileDotBytes() {
  TileMultiply<int32_t, 4>(
      [](const uint8_t* a, const uint8_t* b) { return static_cast<int32_t>(LoadAs<int8_t>(a)) * *b; });
}
THIMBLE_INLINE float TileBf16(const uint8_t* p) {
  const uint32_t bits = static_cast<uint32_t>(LoadAs<uint16_t>(p)) << 16;
  return LoadAs<float>(&bits);
}
THIMBLE_INLINE void TileDotBf16() {
  TileMultiply<float, 2>([](const uint8_t* a, const uint8_t* b) { return TileBf16(a) * TileBf16(b); });
}
#else
THIMBLE_INLINE void LoadTileConfig(const TileConfig& config) {
  _tile_loadconfig(&config);
}
THIMBLE_INLINE void ReleaseTiles() {
  _tile_release();
}
THIMBLE_INLINE void TileZeroSums() {
  _tile_zero(0);
}
THIMBLE_INLINE void TileLoadActivations(const void* p, int64_t stride) {
  _tile_loadd(1, p, stride);
}
THIMBLE_INLINE void TileLoadWeights(const void* p, int64_t stride) {
  _tile_loadd(2, p, stride);
}
THIMBLE_INLINE void TileStoreSums(void* p, int64_t stride) {
  _tile_stored(0, p, stride);
}
THIMBLE_INLINE void TileDotBytes() {
  _tile_dpbsud(0, 1, 2);
}
THIMBLE_INLINE void TileDotBf16() {
  _tile_dpbf16ps(0, 1, 2);
}
#endif

}  // namespace thimble

// Matrix tiles: 16 rows of 64 bytes (Intel Architecture Instruction Set Extensions, chapter 3). With
// THIMBLE_EMULATE_TILES the same functions in plain code, so that what is around them can be tested anywhere.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/generic/macros.h"

namespace thimble {

constexpr int kTileRows = 16;

// Two tiles of activations meet two of weights: sums 0, 1, 2, 3 are of activations 4, 4, 5, 5 and weights 6,
// 7, 6, 7.
constexpr int kSumTiles = 0, kActivationTiles = 4, kWeightTiles = 6, kTiles = 8;

// Sums [rows][16] of activations [rows][depth] and weights [depth][16], in groups of four bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  THIMBLE_MEMBER TileConfig(int64_t n_rows, int64_t depth) {
    for (int i = 0; i < kTiles; ++i) {
      row_bytes[i] = static_cast<uint16_t>(i >= kActivationTiles && i < kWeightTiles ? 4 * depth : 64);
      rows[i] = static_cast<uint8_t>(i >= kWeightTiles ? depth : n_rows);
    }
  }
};
static_assert(sizeof(TileConfig) == 64);

#if defined(THIMBLE_EMULATE_TILES)
static thread_local TileConfig tile_config(16, 16);
static thread_local uint8_t tiles[kTiles][kTileRows * 64];

THIMBLE_INLINE void LoadTileConfig(const TileConfig& config) {
  tile_config = config;
}
THIMBLE_INLINE void ReleaseTiles() {}
template <int kTile>
THIMBLE_INLINE void ZeroTile() {
  memset(tiles[kTile], 0, sizeof(tiles[kTile]));
}
template <int kTile>
THIMBLE_INLINE void LoadTile(const void* p, int64_t stride) {
  ZeroTile<kTile>();
  for (int i = 0; i < tile_config.rows[kTile]; ++i) {
    memcpy(tiles[kTile] + 64 * i, static_cast<const uint8_t*>(p) + i * stride, tile_config.row_bytes[kTile]);
  }
}
template <int kTile>
THIMBLE_INLINE void StoreTile(void* p, int64_t stride) {
  for (int i = 0; i < tile_config.rows[kTile]; ++i) {
    memcpy(static_cast<uint8_t*>(p) + i * stride, tiles[kTile] + 64 * i, tile_config.row_bytes[kTile]);
  }
}
// Adds the products of the elements of a group, four or two, in the order in which they stand.
template <typename Sum, int kElements, int kSums, int kA, int kB, typename Product>
THIMBLE_INLINE void MultiplyTiles(const Product& product) {
  for (int i = 0; i < tile_config.rows[kSums]; ++i) {
    for (int j = 0; j < tile_config.row_bytes[kSums] / 4; ++j) {
      Sum sum = LoadAs<Sum>(tiles[kSums] + 64 * i + 4 * j);
      for (int k = 0; k < tile_config.rows[kB]; ++k) {
        for (int e = 0; e < kElements; ++e) {
          sum += product(tiles[kA] + 64 * i + 4 * k + 4 / kElements * e,
                         tiles[kB] + 64 * k + 4 * j + 4 / kElements * e);
        }
      }
      memcpy(tiles[kSums] + 64 * i + 4 * j, &sum, 4);
    }
  }
}
template <int kSums, int kA, int kB>
THIMBLE_INLINE void DotTileBytes() {
  MultiplyTiles<int32_t, 4, kSums, kA, kB>(
      [](const uint8_t* a, const uint8_t* b) { return static_cast<int32_t>(LoadAs<int8_t>(a)) * *b; });
}
THIMBLE_INLINE float FromBf16(const uint8_t* p) {
  const uint32_t bits = static_cast<uint32_t>(LoadAs<uint16_t>(p)) << 16;
  return LoadAs<float>(&bits);
}
template <int kSums, int kA, int kB>
THIMBLE_INLINE void DotTileBf16() {
  MultiplyTiles<float, 2, kSums, kA, kB>(
      [](const uint8_t* a, const uint8_t* b) { return FromBf16(a) * FromBf16(b); });
}
#else
// As assembly: GCC's intrinsics do not take a template's constants, and those that load do not say that they
// read memory, so that what was just written there may not have been (GCC 12).
THIMBLE_INLINE void LoadTileConfig(const TileConfig& config) {
  asm volatile("ldtilecfg %0" ::"m"(config));
}
THIMBLE_INLINE void ReleaseTiles() {
  asm volatile("tilerelease");
}
template <int kTile>
THIMBLE_INLINE void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
THIMBLE_INLINE void LoadTile(const void* p, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(p), "r"(stride) : "memory");
}
template <int kTile>
THIMBLE_INLINE void StoreTile(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(p), "r"(stride) : "memory");
}
// Signed bytes of activations with unsigned ones of weights.
template <int kSums, int kA, int kB>
THIMBLE_INLINE void DotTileBytes() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
template <int kSums, int kA, int kB>
THIMBLE_INLINE void DotTileBf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
#endif

}  // namespace thimble

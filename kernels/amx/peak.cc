// What matrix tiles could do at best with int8: four sums, more than the instruction's latency times its
// throughput.
#include "kernels/amx/tiles.h"
#include "kernels/tiers.h"

namespace thimble {
namespace {

int64_t Int8Peak(int64_t rounds) {
  alignas(64) static const uint8_t zeros[kTileRows * 64] = {};
  LoadTileConfig(TileConfig(kTileRows, kTileRows));
  LoadTile<kActivationTiles>(zeros, 64);
  LoadTile<kActivationTiles + 1>(zeros, 64);
  LoadTile<kWeightTiles>(zeros, 64);
  LoadTile<kWeightTiles + 1>(zeros, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    DotTileBytes<kSumTiles, kActivationTiles, kWeightTiles>();
    DotTileBytes<kSumTiles + 1, kActivationTiles, kWeightTiles + 1>();
    DotTileBytes<kSumTiles + 2, kActivationTiles + 1, kWeightTiles>();
    DotTileBytes<kSumTiles + 3, kActivationTiles + 1, kWeightTiles + 1>();
  }
  ReleaseTiles();
  return rounds * 4 * kTileRows * kTileRows * 64;
}

}  // namespace

namespace amx {

void FillPeak(KernelTable* table) {
  table->int8_peak = Int8Peak;
}

}  // namespace amx
}  // namespace thimble

// Weights per second of EncodeRow and DecodeRow, one thread.
#include <benchmark/benchmark.h>

#include "codec/codec.h"
#include "codec/test_support.h"

namespace thimble {
namespace {

constexpr int64_t kWeights = 1 << 15;

void BM_Encode(benchmark::State& state, WeightType type) {
  const std::vector<float> x = GaussianWeights(kWeights, 1);
  std::vector<uint8_t> row(RowBytes(type, kWeights));
  for (auto _ : state) {
    EncodeRow(type, x.data(), row.data(), kWeights);
    benchmark::DoNotOptimize(row.data());
  }
  state.SetItemsProcessed(state.iterations() * kWeights);
}

void BM_Decode(benchmark::State& state, WeightType type) {
  const std::vector<uint8_t> row = Encode(type, GaussianWeights(kWeights, 1));
  std::vector<float> x(kWeights);
  for (auto _ : state) {
    DecodeRow(type, row.data(), x.data(), kWeights);
    benchmark::DoNotOptimize(x.data());
  }
  state.SetItemsProcessed(state.iterations() * kWeights);
}

const bool kRegistered = [] {
  for (const WeightType type : DecodableTypes()) {
    benchmark::RegisterBenchmark((std::string("Encode/") + Name(type)).c_str(), BM_Encode, type);
    benchmark::RegisterBenchmark((std::string("Decode/") + Name(type)).c_str(), BM_Decode, type);
  }
  return true;
}();

}  // namespace
}  // namespace thimble

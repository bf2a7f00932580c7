// Attention on one thread over a cache of each type, in SmolLM2-135M's shape (9 heads that share 3 kv heads
// of 64 numbers): the last q queries of a context of n keys. Gflop/s counts the keys that are seen.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "ops/attention.h"

namespace thimble {
namespace {

void CachedAttentionBench(benchmark::State& state, WeightType type, int64_t n_queries, int64_t n_keys) {
  const AttentionParams params{9, 3, 64, 0.125f, 0};
  ThreadPool pool(1);
  const Context ctx{.pool = pool};
  const KvFormat format{{type, type}, params.n_kv_heads, params.head_dim};
  const int64_t n_blocks = (n_keys + kKeyBlock - 1) / kKeyBlock;
  std::vector<uint8_t> memory(format.block_bytes() * static_cast<size_t>(n_blocks));
  std::vector<uint8_t*> blocks;
  for (int64_t i = 0; i < n_blocks; ++i)
    blocks.push_back(memory.data() + format.block_bytes() * static_cast<size_t>(i));
  const auto fill = [](int64_t rows, int64_t cols) {
    Tensor t = Tensor::Empty(rows, cols);
    for (int64_t i = 0; i < t.size(); ++i)
      t.data()[i] = 0.001f * static_cast<float>((i * 7919) % 2003 - 1001);
    return t;
  };
  const Tensor q = fill(n_queries, params.n_heads * params.head_dim);
  const Tensor kv = fill(n_keys, params.n_kv_heads * params.head_dim);
  StoreKeysAndValues(ctx, kv, kv, 0, n_keys, {format, blocks}, 0);
  for (auto _ : state) {
    StoreKeysAndValues(ctx, kv, kv, n_keys - n_queries, n_queries, {format, blocks}, n_keys - n_queries);
    CachedAttention(ctx, q, n_keys - n_queries, {format, blocks}, params);
  }
  const double seen = static_cast<double>(n_queries) * (static_cast<double>(2 * n_keys - n_queries + 1) / 2);
  state.counters["Gflop/s"] =
      benchmark::Counter(4e-9 * seen * static_cast<double>(params.n_heads * params.head_dim),
                         benchmark::Counter::kIsIterationInvariantRate);
}

int RegisterAll() {
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kQ8_0, WeightType::kQ4_0}) {
    for (const auto& [q, n] : {std::pair{512, 512}, {512, 4096}, {8, 512}, {1, 64}, {1, 512}, {1, 4096}}) {
      const std::string name =
          std::string("attention/") + Name(type) + "/q:" + std::to_string(q) + "/n:" + std::to_string(n);
      benchmark::RegisterBenchmark(name.c_str(), CachedAttentionBench, type, q, n)
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return 0;
}

[[maybe_unused]] const int kRegistered = RegisterAll();

}  // namespace
}  // namespace thimble

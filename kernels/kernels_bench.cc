// How fast each tier multiplies and decodes each weight type, on one thread: GB of weights and 10^9
// operations (a multiply and an add) per second. m is the number of activation rows: 1 as when generating,
// 512 as when reading a prompt. All from a cache, but for "memory": matrices of 8192 x 2048 that are met one
// after another in a gigabyte, to compare with "read_memory" (--benchmark_enable_random_interleaving=true
// --benchmark_repetitions=9, as bandwidth changes with time).
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "codec/types.h"
#include "kernels/kernels.h"

namespace thimble {
namespace {

constexpr int64_t kColumns = 1536, kRows = 1536;

void ReportRates(benchmark::State& state, double bytes, double operations) {
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["Gop/s"] = Counter(operations * 1e-9, Counter::kIsIterationInvariantRate);
}

// Zero bytes are valid weights of every type, and as fast as any.
void MatmulQ(benchmark::State& state, const KernelTable& kernels, const WeightTypeInfo& info, int64_t m) {
  const size_t type = static_cast<size_t>(info.type);
  const int64_t n_groups = (kRows + kernels.packed_rows - 1) / kernels.packed_rows;
  const size_t bytes = kernels.packed_bytes[type](kColumns) * static_cast<size_t>(n_groups);
  const std::vector<ActivationBlock> w(bytes / sizeof(ActivationBlock));
  const std::vector<float> x(static_cast<size_t>(m * kColumns), 1.0f);
  std::vector<ActivationBlock> blocks(x.size() / 32);
  kernels.quantize_activations(x.data(), blocks.data(), m * kColumns);
  std::vector<float> y(static_cast<size_t>(m * kRows));
  for (auto _ : state) {
    kernels.matmul_q[type](m, kRows, kColumns, w.data(), blocks.data(), kColumns / 32, y.data(), kRows);
    benchmark::ClobberMemory();
  }
  ReportRates(state, static_cast<double>(bytes), 2.0 * static_cast<double>(m * kRows * kColumns));
}

constexpr int64_t kFarColumns = 2048, kFarRows = 8192;
constexpr size_t kFarBytes = size_t{1} << 30;

// Zeros, in huge pages as weights are.
const uint8_t* FarBytes() {
  static uint8_t* const bytes = [] {
    uint8_t* p = static_cast<uint8_t*>(std::aligned_alloc(size_t{2} << 20, kFarBytes));
    if (p == nullptr) std::abort();
    madvise(p, kFarBytes, MADV_HUGEPAGE);
    std::memset(p, 0, kFarBytes);
    return p;
  }();
  return bytes;
}

// fn(address) reads `bytes` from there on; the threads begin in parts of their own.
template <typename Fn>
void ReadFarBytes(benchmark::State& state, size_t bytes, double operations, const Fn& fn) {
  const uint8_t* const far = FarBytes();
  const size_t copies = kFarBytes / bytes;
  size_t copy = copies * static_cast<size_t>(state.thread_index()) / static_cast<size_t>(state.threads());
  for (auto _ : state) {
    fn(far + copy * bytes);
    benchmark::ClobberMemory();
    copy = (copy + 1) % copies;
  }
  ReportRates(state, static_cast<double>(bytes), operations);
}

void ReadMemory(benchmark::State& state) {
  constexpr size_t kBytes = size_t{8} << 20, kLine = 64, kAhead = 2048;
  ReadFarBytes(state, kBytes, 0, [](const uint8_t* p) {
    uint64_t sums[kLine / 8] = {};
    for (const uint8_t* end = p + kBytes; p < end; p += kLine) {
      __builtin_prefetch(p + kAhead);
      uint64_t line[kLine / 8];
      std::memcpy(line, p, kLine);
      for (size_t i = 0; i < kLine / 8; ++i) sums[i] += line[i];
    }
    benchmark::DoNotOptimize(sums);
  });
}

void MatmulQFromMemory(benchmark::State& state, const KernelTable& kernels, const WeightTypeInfo& info) {
  const size_t type = static_cast<size_t>(info.type);
  const std::vector<float> x(kFarColumns, 1.0f);
  std::vector<ActivationBlock> blocks(x.size() / 32);
  kernels.quantize_activations(x.data(), blocks.data(), kFarColumns);
  std::vector<float> y(kFarRows);
  const size_t bytes =
      kernels.packed_bytes[type](kFarColumns) * static_cast<size_t>(kFarRows / kernels.packed_rows);
  ReadFarBytes(state, bytes, 2.0 * kFarRows * kFarColumns, [&](const uint8_t* w) {
    kernels.matmul_q[type](1, kFarRows, kFarColumns, w, blocks.data(), kFarColumns / 32, y.data(), kFarRows);
  });
}

void Decode(benchmark::State& state, const KernelTable& kernels, const WeightTypeInfo& info) {
  const size_t stride = RowBytes(info.type, kColumns);
  const std::vector<uint8_t> w(stride * kRows);
  std::vector<float> row(kColumns);
  for (auto _ : state) {
    for (size_t j = 0; j < kRows; ++j) {
      kernels.decode_row[static_cast<size_t>(info.type)](w.data() + j * stride, row.data(), kColumns);
    }
    benchmark::ClobberMemory();
  }
  ReportRates(state, static_cast<double>(w.size()), static_cast<double>(kRows * kColumns));
}

using GemmFunction = decltype(KernelTable::gemm_nt);

void Gemm(benchmark::State& state, GemmFunction gemm, bool b_transposed, bool a_transposed, int64_t m) {
  const std::vector<float> a(static_cast<size_t>(m * kColumns), 1.0f), b(kRows * kColumns, 1.0f);
  std::vector<float> c(static_cast<size_t>(m * kRows));
  for (auto _ : state) {
    gemm(m, kRows, kColumns, a.data(), a_transposed ? m : kColumns, b.data(), b_transposed ? kColumns : kRows,
         c.data(), kRows, false);
    benchmark::ClobberMemory();
  }
  ReportRates(state, static_cast<double>(b.size() * sizeof(float)),
              2.0 * static_cast<double>(m * kRows * kColumns));
}

int RegisterAll() {
  const auto add_far = [](const std::string& name, auto... args) {
    benchmark::RegisterBenchmark(name.c_str(), args...)
        ->Unit(benchmark::kMicrosecond)
        ->MinTime(0.1)
        ->ThreadRange(1, 2);
  };
  add_far("read_memory", ReadMemory);
  const KernelTable* tiers[8];
  const int n_tiers = SupportedKernels(tiers, 8);
  for (int t = 0; t < n_tiers; ++t) {
    const KernelTable& kernels = *tiers[t];
    const std::string tier = kernels.name;
    const auto add = [](const std::string& name, auto... args) {
      benchmark::RegisterBenchmark(name.c_str(), args...)->Unit(benchmark::kMicrosecond)->MinTime(0.1);
    };
    for (const WeightTypeInfo& info : AllWeightTypes()) {
      const std::string name = "/" + std::string(info.name) + "/" + tier;
      if (info.quantized) {
        for (int64_t m : {1, 4, 64, 512}) {
          add("matmul_q" + name + "/m:" + std::to_string(m),
              [&, m](benchmark::State& state) { MatmulQ(state, kernels, info, m); });
        }
      }
      if (info.quantized && tier != "ref") {
        add_far("matmul_q" + name + "/memory",
                [&](benchmark::State& state) { MatmulQFromMemory(state, kernels, info); });
      }
      if (info.decodable) {
        add("decode" + name, [&](benchmark::State& state) { Decode(state, kernels, info); });
      }
    }
    for (int64_t m : {1, 64, 512}) {
      const std::string size = "/" + tier + "/m:" + std::to_string(m);
      add("gemm_nt" + size,
          [&, m](benchmark::State& state) { Gemm(state, kernels.gemm_nt, true, false, m); });
      add("gemm_nn" + size,
          [&, m](benchmark::State& state) { Gemm(state, kernels.gemm_nn, false, false, m); });
      add("gemm_tn" + size,
          [&, m](benchmark::State& state) { Gemm(state, kernels.gemm_tn, false, true, m); });
    }
  }
  return 0;
}

[[maybe_unused]] const int kRegistered = RegisterAll();

}  // namespace
}  // namespace thimble

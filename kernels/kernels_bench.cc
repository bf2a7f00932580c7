// How fast each tier multiplies and decodes each weight type, on one thread: GB of weights and 10^9
// operations (a multiply and an add) per second. m is the number of activation rows: 1 as when generating,
// 512 as when reading a prompt.
#include <benchmark/benchmark.h>

#include <cstdint>
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

// What stands around the matrix tiles, with tiles in plain code, for processors that lack them.
#include "kernels/test_support.h"
#include "kernels/tiers.h"

#if defined(__x86_64__)
namespace thimble {
namespace {

// Random blocks whose F16 factors are small numbers would do; what matters is that both see the same.
std::vector<ActivationBlock> Packed(const KernelTable& kernels, const WeightTypeInfo& info, int64_t n_rows,
                                    int64_t k) {
  const size_t row = RowBytes(info.type, k);
  std::vector<uint8_t> w = RandomBytes(row * static_cast<size_t>(n_rows), 3);
  for (uint8_t& byte : w) byte &= 0xbb;  // no exponent of infinity
  return Pack(kernels, info.type, n_rows, k, w.data(), row);
}

TEST(AmxTest, IntegerProductsEqualAvx512s) {
  const KernelTable* const avx512 = FindKernels("avx512");
  if (avx512 == nullptr) GTEST_SKIP() << "the emulation needs AVX-512";
  KernelTable amx = *avx512;
  amx_emulated::FillMatmulQ(&amx);
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.quantized) continue;
    const size_t type = static_cast<size_t>(info.type);
    for (int64_t m : {1, 15, 16, 37}) {
      const int64_t k = (m == 37 ? 2304 : 512) + RowStep(info), n_rows = 2 * m + 3;
      const auto packed = Packed(amx, info, n_rows, k);
      const std::vector<float> x = RandomFloats(static_cast<size_t>(m * k), 4);
      std::vector<ActivationBlock> blocks(x.size() / 32);
      avx512->quantize_activations(x.data(), blocks.data(), m * k);
      std::vector<float> expected(static_cast<size_t>(m * n_rows)), y = expected;
      avx512->matmul_q[type](m, n_rows, k, packed.data(), blocks.data(), k / 32, expected.data(), n_rows);
      amx.matmul_q[type](m, n_rows, k, packed.data(), blocks.data(), k / 32, y.data(), n_rows);
      EXPECT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0)
          << info.name << ", m " << m;
    }
  }
}

TEST(AmxTest, Bf16ProductsEqualAvx512s) {
  const KernelTable* const avx512 = FindKernels("avx512_bf16");
  if (avx512 == nullptr) GTEST_SKIP() << "the packing needs AVX-512 with BF16";
  KernelTable amx = *avx512;
  amx_emulated::FillMatmulBf16(&amx);
  const WeightTypeInfo& info = Info(WeightType::kBF16);
  for (int64_t k : {2, 30, 32, 576, 1100}) {
    const int64_t m = 3 * (k % 7) + 14, n_rows = 35;
    const auto packed = Packed(amx, info, n_rows, k);
    const std::vector<float> x = RandomFloats(static_cast<size_t>(m * k), 4);
    std::vector<uint16_t> rounded(x.size());
    avx512->round_activations(x.data(), rounded.data(), m * k);
    std::vector<float> expected(static_cast<size_t>(m * n_rows)), y = expected;
    avx512->matmul_bf16(m, n_rows, k, packed.data(), rounded.data(), k, expected.data(), n_rows, false);
    amx.matmul_bf16(m, n_rows, k, packed.data(), rounded.data(), k, y.data(), n_rows, false);
    float largest = 0;
    for (float value : expected) largest = std::max(largest, std::abs(value));
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y[i], expected[i], 1e-5f * largest) << "k " << k << ", " << i;
  }
}

}  // namespace
}  // namespace thimble
#endif

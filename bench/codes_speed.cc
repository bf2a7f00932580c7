// The speed half of codes_bench: y = W x with weights in a code and activations in int8, read from memory.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "base/thread_pool.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 sees it in its own header (PR 105593)
#endif
#include <immintrin.h>
#endif

namespace thimble {

int MeasureSpeed(int max_threads);

#if defined(__x86_64__)
namespace {

// A 1B model's ffn_up. 16 rows are interleaved: first a scale of 8 bits for each block of 64 columns and row,
// [blocks, 16], then each block's codes.
constexpr int kRows = 8192, kColumns = 2048, kBlocks = kColumns / 64;
constexpr size_t kScaleBytes = kBlocks * 16;

// Tables of 16, 32 and 64 entries, each over and over: vpermb reads 6 bits. A weight + 128 is an entry of
// low, in additive codes with one of high added.
struct Tables {
  alignas(64) uint8_t low[3][64], high[3][64];
  alignas(64) uint64_t e8p[256];  // absolute values times 4
};
struct Activations {
  alignas(64) int8_t x[kColumns];
  int32_t sums[kBlocks];
  float scales[kBlocks];
};

float ScaleOf(uint8_t b) {
  return std::ldexp(1 + static_cast<float>(b & 7) / 8, (b >> 3) - 20);
}

enum class Kind { kScalar, kAdd, kAdd5, kAdd6, kFree, kE8P, kMad };
constexpr int WidthOf(Kind kind) {  // of an index into a table
  return kind == Kind::kFree || kind == Kind::kAdd6 ? 6 : kind == Kind::kAdd5 ? 5 : 4;
}
constexpr bool IsAdditive(Kind kind) {
  return kind == Kind::kAdd || kind == Kind::kAdd5 || kind == Kind::kAdd6;
}
struct Kernel {
  const char* name;
  Kind kind;
  int bits;
  bool avx512;
  void (*run)(const uint8_t* group, const Activations& a, const Tables& t, float* y);  // 16 rows
  size_t group_bytes() const { return kScaleBytes + static_cast<size_t>(kBlocks * 128 * bits); }
};

#define AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni,avx512bitalg,popcnt")))
#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE inline __attribute__((always_inline))

// Bits from bit `at` of each byte of `low` on, going on in `high`; what stands above them is arbitrary, but
// for fields that cross into `high`.
template <int at, int width>
AVX512 INLINE __m512i Field(__m512i low, __m512i high) {
  if constexpr (at == 0) {
    return low;
  } else if constexpr (at + width <= 8) {
    return _mm512_srli_epi16(low, at);
  } else {
    constexpr char kMask = static_cast<char>((1 << (8 - at)) - 1);
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8(kMask), _mm512_srli_epi16(low, at),
                                     _mm512_slli_epi16(high, 8 - at), 0xca);
  }
}

// Weight i of the 16 that each byte lane holds; vector m has the lanes' bytes m.
template <Kind kind, int bits, int i>
AVX512 INLINE __m512i Weights(const __m512i* p, __m512i low, __m512i high) {
  constexpr int width = WidthOf(kind), a = bits * i, b = a + width;
  const __m512i first = _mm512_permutexvar_epi8(Field<a % 8, width>(p[a / 8], p[a / 8 + 1]), low);
  if constexpr (!IsAdditive(kind)) return first;
  const __m512i upper = Field<b % 8, width>(p[b / 8], p[b / 8 + 1]);
  return _mm512_add_epi8(first, _mm512_permutexvar_epi8(upper, high));
}
template <Kind kind, int bits, int i = 0>
AVX512 INLINE void AddBlock(const __m512i* p, const int32_t* x, __m512i low, __m512i high, __m512i* sums) {
  sums[i % 2] =
      _mm512_dpbusd_epi32(sums[i % 2], Weights<kind, bits, i>(p, low, high), _mm512_set1_epi32(x[i]));
  if constexpr (i < 15) AddBlock<kind, bits, i + 1>(p, x, low, high, sums);
}
AVX512 INLINE __m512 Scales(__m128i bytes) {
  const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu8_epi32(bytes), 20);
  return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32((127 - 20) << 23)));
}
// Without this, the kernels of 2 bits are up to 30 % slower.
template <int bytes>
INLINE void Prefetch(const uint8_t* p) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i + 2048);
}
AVX512 INLINE __m512i LoadVector(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}

template <Kind kind, int bits>
AVX512 void Product512(const uint8_t* group, const Activations& a, const Tables& t, float* y) {
  constexpr size_t kTable = WidthOf(kind) - 4;
  const __m512i low = LoadVector(t.low[kTable]), high = LoadVector(t.high[kTable]);
  const uint8_t* codes = group + kScaleBytes;
  __m512 sum = _mm512_setzero_ps();
  for (int b = 0; b < kBlocks; ++b, codes += 128 * bits) {
    Prefetch<128 * bits>(codes);
    __m512i p[2 * bits + 2];
    for (int m = 0; m < 2 * bits; ++m) p[m] = LoadVector(codes + 64 * m);
    p[2 * bits] = _mm512_ror_epi32(p[0], 8);  // the next lane's first bytes: the lanes are a circle
    p[2 * bits + 1] = _mm512_ror_epi32(p[1], 8);
    int32_t x[16];
    std::memcpy(x, a.x + 64 * b, 64);
    __m512i sums[2] = {_mm512_set1_epi32(-128 * a.sums[b]), _mm512_setzero_si512()};
    AddBlock<kind, bits>(p, x, low, high, sums);
    const __m512 scale =
        _mm512_mul_ps(Scales(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group + 16 * b))),
                      _mm512_set1_ps(a.scales[b]));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[0], sums[1])), scale, sum);
  }
  _mm512_storeu_ps(y, sum);
}

// Twice 8 rows: 64 bytes of patterns, [8 groups of columns, 8 rows], and 64 of signs.
AVX512 void ProductE8P(const uint8_t* group, const Activations& a, const Tables& t, float* y) {
  const uint8_t* codes = group + kScaleBytes;
  __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  const __m512i one = _mm512_set1_epi8(1), plus = _mm512_set1_epi8(static_cast<char>(129)),
                minus = _mm512_set1_epi8(127);
  for (int b = 0; b < kBlocks; ++b, codes += 256) {
    Prefetch<256>(codes);
    for (int half = 0; half < 2; ++half) {
      const uint8_t* at = codes + 128 * half;
      __m512i signs = LoadVector(at + 64);
      const uint64_t odd = _mm512_test_epi8_mask(_mm512_popcnt_epi8(signs), one);
      signs = _mm512_mask_xor_epi64(signs, 0xff, signs, _mm512_maskz_mov_epi8(odd, one));
      alignas(64) uint64_t negative[8];
      _mm512_store_si512(negative, signs);
      __m512i sums = _mm512_set1_epi32(-64 * a.sums[b]);  // twice, for the two lanes of a row
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        const __m512i index =
            _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + 8 * g)));
        __m512i v = _mm512_i64gather_epi64(index, t.e8p, 8);
        v = _mm512_mask_sub_epi8(v, negative[g], _mm512_setzero_si512(), v);
        v = _mm512_add_epi8(v, _mm512_mask_mov_epi64(plus, static_cast<__mmask8>(odd >> (8 * g)), minus));
        long long x;
        std::memcpy(&x, a.x + 64 * b + 8 * g, 8);
        sums = _mm512_dpbusd_epi32(sums, v, _mm512_set1_epi64(x));
      }
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(group + 16 * b + 8 * half));
      const __m512 scale =
          _mm512_mul_ps(Scales(_mm_unpacklo_epi8(bytes, bytes)), _mm512_set1_ps(a.scales[b]));
      sum[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, sum[half]);
    }
  }
  for (int r = 0; r < 16; ++r) {
    alignas(64) float pairs[16];
    _mm512_store_ps(pairs, sum[r / 8]);
    y[r] = pairs[r % 8 * 2] + pairs[r % 8 * 2 + 1];
  }
}

// Windows of 16 bits along each row; a row's 32 bits are a lane.
template <int bits, int i = 0>
AVX512 INLINE void AddMad(const __m512i* p, const int8_t* x, __m512i* sums) {
  constexpr int at = bits * i % 32, m = bits * i / 32;
  __m512i state = at + 16 <= 32 ? _mm512_srli_epi32(p[m], at) : _mm512_shrdi_epi32(p[m], p[m + 1], at);
  if constexpr (at != 16) state = _mm512_and_si512(state, _mm512_set1_epi32(0xffff));
  const __m512i hash =
      _mm512_add_epi32(_mm512_mullo_epi32(state, _mm512_set1_epi32(34038481)), _mm512_set1_epi32(76625530));
  const __m512i value = _mm512_dpbusd_epi32(_mm512_setzero_si512(), hash, _mm512_set1_epi8(1));
  sums[i % 2] = _mm512_dpwssd_epi32(sums[i % 2], value, _mm512_set1_epi32(x[i]));
  if constexpr (i < 63) AddMad<bits, i + 1>(p, x, sums);
}
template <int bits>
AVX512 void ProductMad(const uint8_t* group, const Activations& a, const Tables&, float* y) {
  const uint8_t* codes = group + kScaleBytes;
  __m512 sum = _mm512_setzero_ps();
  for (int b = 0; b < kBlocks; ++b, codes += 128 * bits) {
    Prefetch<128 * bits>(codes);
    __m512i p[2 * bits + 1];
    for (int m = 0; m <= 2 * bits; ++m) p[m] = LoadVector(codes + 64 * m);
    if (b == kBlocks - 1) p[2 * bits] = _mm512_setzero_si512();
    __m512i sums[2] = {_mm512_set1_epi32(-510 * a.sums[b]), _mm512_setzero_si512()};
    AddMad<bits>(p, a.x + 64 * b, sums);
    const __m512 scale =
        _mm512_mul_ps(Scales(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group + 16 * b))),
                      _mm512_set1_ps(a.scales[b]));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[0], sums[1])), scale, sum);
  }
  _mm512_storeu_ps(y, sum);
}

// The same with AVX2, 8 rows at once.
template <int at, int width>
AVX2 INLINE __m256i Field2(__m256i low, __m256i high) {
  __m256i bits = at == 0 ? low : _mm256_srli_epi16(low, at);
  if constexpr (at + width > 8) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << (8 - at)) - 1));
    bits = _mm256_or_si256(_mm256_and_si256(mask, bits),
                           _mm256_andnot_si256(mask, _mm256_slli_epi16(high, 8 - at)));
  }
  return _mm256_and_si256(bits, _mm256_set1_epi8((1 << width) - 1));
}
// pshufb reads 4 bits, blendv chooses by one more.
template <int width>
AVX2 INLINE __m256i Look(const __m256i* table, __m256i index) {
  const __m256i v = _mm256_shuffle_epi8(table[0], index);
  if constexpr (width == 4) {
    return v;
  } else {
    const __m256i bit4 = _mm256_slli_epi16(index, 3);
    const __m256i lower = _mm256_blendv_epi8(v, _mm256_shuffle_epi8(table[1], index), bit4);
    if constexpr (width == 5) return lower;
    const __m256i upper =
        _mm256_blendv_epi8(_mm256_shuffle_epi8(table[2], index), _mm256_shuffle_epi8(table[3], index), bit4);
    return _mm256_blendv_epi8(lower, upper, _mm256_slli_epi16(index, 2));
  }
}
template <Kind kind, int bits, int i = 0>
AVX2 INLINE void AddBlock2(const __m256i* p, const int32_t* x, const __m256i* low, const __m256i* high,
                           __m256i& sums) {
  constexpr int width = WidthOf(kind), a = bits * i, b = a + width;
  __m256i w = Look<width>(low, Field2<a % 8, width>(p[a / 8], p[a / 8 + 1]));
  if constexpr (IsAdditive(kind)) {
    w = _mm256_add_epi8(w, Look<width>(high, Field2<b % 8, width>(p[b / 8], p[b / 8 + 1])));
  }
  const __m256i pairs =
      _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(_mm256_set1_epi32(x[i]), w));
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  if constexpr (i < 15) AddBlock2<kind, bits, i + 1>(p, x, low, high, sums);
}
template <Kind kind, int bits>
AVX2 void Product256(const uint8_t* group, const Activations& a, const Tables& t, float* y) {
  const __m256i offset = _mm256_set1_epi8(static_cast<char>(128));
  constexpr int width = WidthOf(kind);
  __m256i low[1 << (width - 4)], high[1 << (width - 4)];  // 16 entries each, twice
  for (int j = 0; j < 1 << (width - 4); ++j) {
    const auto* from = reinterpret_cast<const __m128i*>(t.low[width - 4]) + j;
    low[j] = _mm256_sub_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(from)), offset);
    from = reinterpret_cast<const __m128i*>(t.high[width - 4]) + j;
    high[j] = _mm256_broadcastsi128_si256(_mm_loadu_si128(from));
  }
  const __m256i turn = _mm256_setr_epi8(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, 1, 2, 3, 0, 5,
                                        6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
  const uint8_t* codes = group + kScaleBytes;
  __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int b = 0; b < kBlocks; ++b, codes += 128 * bits) {
    Prefetch<128 * bits>(codes);
    int32_t x[16];
    std::memcpy(x, a.x + 64 * b, 64);
    for (int half = 0; half < 2; ++half) {
      __m256i p[2 * bits + 2];
      for (int m = 0; m < 2 * bits; ++m) {
        p[m] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 64 * m + 32 * half));
      }
      p[2 * bits] = _mm256_shuffle_epi8(p[0], turn);
      p[2 * bits + 1] = _mm256_shuffle_epi8(p[1], turn);
      __m256i sums = _mm256_setzero_si256();
      AddBlock2<kind, bits>(p, x, low, high, sums);
      const __m256i bytes =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(group + 16 * b + 8 * half)));
      const __m256i scale =
          _mm256_add_epi32(_mm256_slli_epi32(bytes, 20), _mm256_set1_epi32((127 - 20) << 23));
      sum[half] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums),
                          _mm256_mul_ps(_mm256_castsi256_ps(scale), _mm256_set1_ps(a.scales[b])), sum[half]);
    }
  }
  _mm256_storeu_ps(y, sum[0]);
  _mm256_storeu_ps(y + 8, sum[1]);
}

constexpr Kernel kKernels[] = {
    {"scalar", Kind::kScalar, 4, true, Product512<Kind::kScalar, 4>},
    {"add", Kind::kAdd, 2, true, Product512<Kind::kAdd, 2>},
    {"add", Kind::kAdd, 3, true, Product512<Kind::kAdd, 3>},
    {"add", Kind::kAdd, 4, true, Product512<Kind::kAdd, 4>},
    {"add5", Kind::kAdd5, 2, true, Product512<Kind::kAdd5, 2>},
    {"add5", Kind::kAdd5, 3, true, Product512<Kind::kAdd5, 3>},
    {"add5", Kind::kAdd5, 4, true, Product512<Kind::kAdd5, 4>},
    {"add6", Kind::kAdd6, 2, true, Product512<Kind::kAdd6, 2>},
    {"add6", Kind::kAdd6, 3, true, Product512<Kind::kAdd6, 3>},
    {"add6", Kind::kAdd6, 4, true, Product512<Kind::kAdd6, 4>},
    {"free", Kind::kFree, 2, true, Product512<Kind::kFree, 2>},
    {"free", Kind::kFree, 3, true, Product512<Kind::kFree, 3>},
    {"free", Kind::kFree, 4, true, Product512<Kind::kFree, 4>},
    {"e8p", Kind::kE8P, 2, true, ProductE8P},
    {"1mad", Kind::kMad, 2, true, ProductMad<2>},
    {"1mad", Kind::kMad, 3, true, ProductMad<3>},
    {"1mad", Kind::kMad, 4, true, ProductMad<4>},
    {"scalar", Kind::kScalar, 4, false, Product256<Kind::kScalar, 4>},
    {"add", Kind::kAdd, 2, false, Product256<Kind::kAdd, 2>},
    {"add", Kind::kAdd, 3, false, Product256<Kind::kAdd, 3>},
    {"add", Kind::kAdd, 4, false, Product256<Kind::kAdd, 4>},
    {"add5", Kind::kAdd5, 2, false, Product256<Kind::kAdd5, 2>},
    {"add5", Kind::kAdd5, 3, false, Product256<Kind::kAdd5, 3>},
    {"add5", Kind::kAdd5, 4, false, Product256<Kind::kAdd5, 4>},
    {"add6", Kind::kAdd6, 2, false, Product256<Kind::kAdd6, 2>},
    {"add6", Kind::kAdd6, 3, false, Product256<Kind::kAdd6, 3>},
    {"add6", Kind::kAdd6, 4, false, Product256<Kind::kAdd6, 4>},
};

// What each code says, bit by bit, to check the kernels by.
float Reference(const Kernel& kernel, const uint8_t* group, const Activations& a, const Tables& t, int r) {
  const int bits = kernel.bits;
  const auto bit = [&](int b, int at) {  // of row r's string of a block
    const uint8_t* codes = group + kScaleBytes + b * 128 * bits;
    if (kernel.kind == Kind::kMad) {  // goes on in the next block
      if (b == kBlocks - 1 && at >= 64 * bits) return 0;
      return codes[at / 32 * 64 + r * 4 + at % 32 / 8] >> (at % 8) & 1;
    }
    at %= 64 * bits;
    return codes[at / 8 % (2 * bits) * 64 + r * 4 + at / (16 * bits)] >> (at % 8) & 1;
  };
  double y = 0;
  for (int b = 0; b < kBlocks; ++b) {
    double sum = 0;
    for (int i = 0; i < 64; ++i) {
      int window = 0, weight = 0, column = i;
      for (int j = 0; j < 16; ++j) window |= bit(b, bits * i + j) << j;
      if (kernel.kind == Kind::kMad) {
        const uint32_t hash = static_cast<uint32_t>(window) * 34038481u + 76625530u;
        weight = static_cast<int>((hash & 255) + (hash >> 8 & 255) + (hash >> 16 & 255) + (hash >> 24)) - 510;
      } else if (kernel.kind == Kind::kE8P) {
        const uint8_t* at = group + kScaleBytes + b * 256 + r / 8 * 128 + i / 8 * 8 + r % 8;
        const uint8_t signs = at[64], odd = std::popcount(signs) % 2;
        const int v = static_cast<int>(t.e8p[at[0]] << (56 - i % 8 * 8) >> 56 << 24) >> 24;
        const bool negative = (signs ^ odd) >> (i % 8) & 1;
        weight = (negative ? -v : v) + (odd ? -1 : 1);
      } else {
        column = i % 16 * 4 + i / 16;
        const int width = WidthOf(kernel.kind), mask = (1 << width) - 1;
        weight = t.low[width - 4][window & mask];
        if (IsAdditive(kernel.kind)) {
          weight += static_cast<int8_t>(t.high[width - 4][window >> width & mask]);
        }
        weight -= 128;
      }
      sum += weight * a.x[64 * b + column];
    }
    y += sum * ScaleOf(group[16 * b + r]) * a.scales[b];
  }
  return static_cast<float>(y);
}

AVX2 uint64_t ReadAll(const uint8_t* p, size_t bytes) {
  __m256i sums[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    Prefetch<128>(p + i);
    for (size_t j = 0; j < 4; ++j) {
      sums[j] =
          _mm256_add_epi64(sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
    }
  }
  const __m256i sum =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(sum, 0) + _mm256_extract_epi64(sum, 3));
}

// Seconds that run(copy) takes: the first quartile over twice all copies, as other programs disturb some.
template <typename Fn>
double TimeOf(size_t copies, const Fn& run) {
  std::vector<double> seconds;
  for (size_t i = 0; i < 2 * copies; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run(i % copies);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<ptrdiff_t>(copies / 2), seconds.end());
  return seconds[copies / 2];
}

}  // namespace

int MeasureSpeed(int max_threads) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bitalg");
  if (!avx2) {
    fmt::print("speed: skipped, the processor has no AVX2\n");
    return 0;
  }
  if (!avx512) fmt::print("speed: no AVX-512 with VBMI, VBMI2, VNNI and BITALG here, kernels of AVX2 only\n");
  Random random(1);
  static Tables t;
  for (size_t table = 0; table < 3; ++table) {
    for (size_t i = 0, n = size_t{16} << table; i < 64; ++i) {
      t.low[table][i] = static_cast<uint8_t>(i < n ? 68 + random.Below(120) : t.low[table][i % n]);
      t.high[table][i] = static_cast<uint8_t>(i < n ? random.Below(120) - 60 : t.high[table][i % n]);
    }
  }
  for (uint64_t& e : t.e8p) {
    for (int i = 0; i < 8; ++i) e = e << 8 | (2 + 4 * random.Below(3));
  }
  static Activations a;
  for (int b = 0; b < kBlocks; ++b) {
    a.scales[b] = static_cast<float>(random.Uniform());
    for (int i = 64 * b; i < 64 * b + 64; ++i) {
      a.x[i] = static_cast<int8_t>(static_cast<int>(random.Below(255)) - 127);
      a.sums[b] += a.x[i];
    }
  }
  std::vector<uint64_t> memory((size_t{3} << 29) / 8);
  for (uint64_t& m : memory) m = random.Next();
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(memory.data());
  std::vector<float> y(kRows);
  fmt::print("{:10} {:>4} {:8} {:>7} {:>8} {:>14} {:>8} {:>10} {:>14}\n", "code", "bits", "", "threads",
             "GB/s", "Gweights/s", "read", "of reading", "from cache");
  for (const Kernel& kernel : kKernels) {
    if (kernel.avx512 && !avx512) continue;
    const size_t group_bytes = kernel.group_bytes(), matrix_bytes = group_bytes * (kRows / 16);
    const size_t copies = (memory.size() * 8 - 64) / matrix_bytes;
    kernel.run(bytes, a, t, y.data());
    for (int r = 0; r < 16; ++r) {
      const float expected = Reference(kernel, bytes, a, t, r), got = y[static_cast<size_t>(r)];
      if (std::abs(got - expected) <= 1e-4f * std::abs(expected) + 1e-3f * ScaleOf(255)) continue;
      fmt::print(stderr, "{} {}: row {} is {}, not {}\n", kernel.name, kernel.bits, r, got, expected);
      return 1;
    }
    for (int threads = 1; threads <= max_threads; ++threads) {
      ThreadPool pool(threads);
      std::array<uint64_t, 64> sink = {};
      const auto on_groups = [&](const auto& fn) {
        return TimeOf(copies, [&](size_t copy) {
          pool.ParallelFor(kRows / 16, 16, [&](int64_t begin, int64_t end, int thread) {
            fn(bytes + copy * matrix_bytes + static_cast<size_t>(begin) * group_bytes, begin, end, thread);
          });
        });
      };
      const double read = on_groups([&](const uint8_t* at, int64_t begin, int64_t end, int thread) {
        sink[static_cast<size_t>(thread)] += ReadAll(at, static_cast<size_t>(end - begin) * group_bytes);
      });
      const double product = on_groups([&](const uint8_t* at, int64_t begin, int64_t end, int) {
        for (int64_t g = begin; g < end; ++g, at += group_bytes) kernel.run(at, a, t, y.data() + g * 16);
      });
      // The decoding alone: the same rows again and again.
      const double cached = on_groups([&](const uint8_t*, int64_t begin, int64_t end, int thread) {
        const uint8_t* at = bytes + static_cast<size_t>(thread) * group_bytes;
        for (int64_t g = begin; g < end; ++g) kernel.run(at, a, t, y.data() + g * 16);
      });
      const double total = static_cast<double>(matrix_bytes);
      const double weights = static_cast<double>(kRows) * kColumns;
      fmt::print("{:10} {:4} {:8} {:7} {:8.2f} {:14.2f} {:8.2f} {:10.2f} {:14.2f}\n", kernel.name,
                 kernel.bits, kernel.avx512 ? "AVX-512" : "AVX2", threads, total / product * 1e-9,
                 weights / product * 1e-9, total / read * 1e-9, read / product, weights / cached * 1e-9);
      std::fflush(stdout);
      if (sink[0] == 1) fmt::print("\n");
    }
  }
  return 0;
}

#else

int MeasureSpeed(int) {
  fmt::print("speed: skipped, the kernels are for x86-64\n");
  return 0;
}

#endif

}  // namespace thimble

// Which tiers this CPU runs, and which one is used.
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "kernels/kernels.h"
#include "kernels/tiers.h"

namespace thimble {
namespace {

struct Tier {
  const char* name;
  bool (*supported)();
  void (*fill)(KernelTable* table);
};

void FillRef(KernelTable* table) {
  ref::FillGemm(table);
  ref::FillRows(table);
  ref::FillDecode(table);
  ref::FillMatmulQ(table);
  ref::FillAttention(table);
}

// A faster tier starts from the table below it, so that it may leave entries out.
#if defined(__x86_64__)
void FillAvx2(KernelTable* table) {
  FillRef(table);
  avx2::FillGemm(table);
  avx2::FillRows(table);
  avx2::FillDecode(table);
  avx2::FillMatmulQ(table);
  avx2::FillAttention(table);
  avx2::FillPeak(table);
}

void FillAvx512(KernelTable* table) {
  FillAvx2(table);
  avx512::FillGemm(table);
  avx512::FillRows(table);
  avx512::FillDecode(table);
  avx512::FillMatmulQ(table);
  avx512::FillAttention(table);
  avx512::FillPeak(table);
}

// F16C has no name in Clang 14's __builtin_cpu_supports; every CPU with AVX2 has it.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
void FillNeon(KernelTable* table) {
  FillRef(table);
  neon::FillGemm(table);
  neon::FillRows(table);
  neon::FillDecode(table);
  neon::FillMatmulQ(table);
  neon::FillAttention(table);
}

void FillNeonDotprod(KernelTable* table) {
  FillNeon(table);
  neon_dotprod::FillMatmulQ(table);
}

void FillNeonI8mm(KernelTable* table) {
  FillNeonDotprod(table);
  neon_i8mm::FillMatmulQ(table);
  neon_i8mm::FillMatmulPairs(table);
}

bool HasDotprod() {
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

bool HasI8mm() {
  return HasDotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
}
#endif

// Best first.
constexpr Tier kTiers[] = {
#if defined(__x86_64__)
    {"avx512", HasAvx512, FillAvx512},
    {"avx2", HasAvx2, FillAvx2},
#elif defined(__aarch64__)
    {"neon_i8mm", HasI8mm, FillNeonI8mm},
    {"neon_dotprod", HasDotprod, FillNeonDotprod},
    {"neon", [] { return true; }, FillNeon},
#endif
    {"ref", [] { return true; }, FillRef},
};
constexpr int kMaxTiers = sizeof(kTiers) / sizeof(kTiers[0]);

struct Tables {
  KernelTable tables[kMaxTiers] = {};
  int count = 0;

  Tables() {
    for (const Tier& tier : kTiers) {
      if (!tier.supported()) continue;
      KernelTable& table = tables[count++];
      tier.fill(&table);
      table.name = tier.name;
    }
  }
};

const Tables& Supported() {
  static const Tables tables;
  return tables;
}

const KernelTable& Choose() {
  const char* name = std::getenv("THIMBLE_ISA");
  if (name == nullptr || *name == '\0') return Supported().tables[0];
  const KernelTable* table = FindKernels(name);
  if (table == nullptr) {
    std::fprintf(stderr, "thimble: THIMBLE_ISA=%s: unknown, or not supported by this CPU\n", name);
    std::abort();
  }
  return *table;
}

}  // namespace

const KernelTable& Kernels() {
  static const KernelTable& chosen = Choose();
  return chosen;
}

const KernelTable* FindKernels(const char* name) {
  const Tables& supported = Supported();
  for (int i = 0; i < supported.count; ++i) {
    if (std::strcmp(supported.tables[i].name, name) == 0) return &supported.tables[i];
  }
  return nullptr;
}

int SupportedKernels(const KernelTable** tables, int max) {
  const Tables& supported = Supported();
  const int count = supported.count < max ? supported.count : max;
  for (int i = 0; i < count; ++i) tables[i] = &supported.tables[i];
  return count;
}

}  // namespace thimble

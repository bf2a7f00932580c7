// Which tiers this CPU runs, and which one is used.
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
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
  ref::FillActivations(table);
  ref::FillMatmulQ(table);
  ref::FillAttention(table);
  ref::FillRound(table);
}

// A faster tier starts from the table below it, so that it may leave entries out.
#if defined(__x86_64__)
void FillAvx2(KernelTable* table) {
  FillRef(table);
  avx2::FillGemm(table);
  avx2::FillRows(table);
  avx2::FillDecode(table);
  avx2::FillActivations(table);
  avx2::FillMatmulQ(table);
  avx2::FillAttention(table);
  avx2::FillRound(table);
  avx2::FillPeak(table);
}

void FillAvxVnni(KernelTable* table) {
  FillAvx2(table);
  avx_vnni::FillMatmulQ(table);
  avx_vnni::FillPeak(table);
}

void FillAvx512(KernelTable* table) {
  FillAvx2(table);
  avx512::FillGemm(table);
  avx512::FillRows(table);
  avx512::FillDecode(table);
  avx512::FillActivations(table);
  avx512::FillMatmulQ(table);
  avx512::FillMatmulF16(table);
  avx512::FillAttention(table);
  avx512::FillRound(table);
  avx512::FillPeak(table);
}

void FillAvx512Vbmi(KernelTable* table) {
  FillAvx512(table);
  avx512_vbmi::FillMatmulQ(table);
}

bool HasAvx512Vbmi();
void FillAvx512Bf16(KernelTable* table) {
  HasAvx512Vbmi() ? FillAvx512Vbmi(table) : FillAvx512(table);  // Cooper Lake has BF16 products only
  avx512_bf16::FillMatmulBf16(table);
}

void FillAmx(KernelTable* table) {
  FillAvx512Bf16(table);
  amx::FillMatmulQ(table);
  amx::FillMatmulBf16(table);
  amx::FillPeak(table);
}

// F16C has no name in Clang 14's __builtin_cpu_supports; every CPU with AVX2 has it.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

// Leaf 7, subleaf 1 of CPUID; the name for __builtin_cpu_supports came with GCC 12 and Clang 16.
bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return HasAvx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

bool HasAvx512Vbmi() {
  return HasAvx512() && __builtin_cpu_supports("avx512vbmi");
}

// Leaf 7, subleaf 1 of CPUID.
bool HasAvx512Bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return HasAvx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
}

// Tiles, BF16 and int8: bits 24, 22 and 25 of leaf 7. The system must also grant the process their state, 8
// KiB a thread (Linux, Documentation/arch/x86/xstate.rst).
bool HasAmx() {
  constexpr unsigned kBits = 1u << 22 | 1u << 24 | 1u << 25;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return HasAvx512Bf16() && HasAvx512Vbmi() && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (d & kBits) == kBits && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#elif defined(__aarch64__)
void FillNeon(KernelTable* table) {
  FillRef(table);
  neon::FillGemm(table);
  neon::FillRows(table);
  neon::FillDecode(table);
  neon::FillActivations(table);
  neon::FillMatmulQ(table);
  neon::FillAttention(table);
  neon::FillRound(table);
}

void FillNeonDotprod(KernelTable* table) {
  FillNeon(table);
  neon_dotprod::FillMatmulQ(table);
}

void FillNeonI8mm(KernelTable* table) {
  FillNeonDotprod(table);
  neon_i8mm::FillMatmulQ(table);
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
    {"amx", HasAmx, FillAmx},
    {"avx512_bf16", HasAvx512Bf16, FillAvx512Bf16},
    {"avx512_vbmi", HasAvx512Vbmi, FillAvx512Vbmi},
    {"avx512", HasAvx512, FillAvx512},
    {"avx_vnni", HasAvxVnni, FillAvxVnni},
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

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "apps/common.h"
#include "codec/types.h"
#include "eval/machine.h"

namespace thimble {
namespace {

constexpr int kMaxTiers = 16;

std::string Memory() {
  const std::string available = ProcValue("/proc/meminfo", "MemAvailable");  // "123 kB"
  const int64_t total = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  std::string text = HumanBytes(total);
  if (!available.empty())
    text += fmt::format(", {} available", HumanBytes(std::atoll(available.c_str()) * 1024));
  int64_t limit = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit && limit < total) {
    text += fmt::format(", {} allowed to this process's group", HumanBytes(limit));
  }
  return text;
}

// What the kernels look for, as /proc/cpuinfo calls it on x86-64 and arm64.
std::string InstructionSets() {
  constexpr const char* kSets[] = {"avx2",        "fma",        "f16c",        "avx_vnni", "avx512f",
                                   "avx512_vnni", "avx512vbmi", "avx512_bf16", "amx_int8", "amx_bf16",
                                   "asimd",       "asimddp",    "i8mm"};
  std::istringstream flags(ProcValue("/proc/cpuinfo", "flags") + ProcValue("/proc/cpuinfo", "Features"));
  const std::set<std::string> has{std::istream_iterator<std::string>(flags), {}};
  std::vector<std::string> names;
  std::copy_if(std::begin(kSets), std::end(kSets), std::back_inserter(names),
               [&](const char* name) { return has.contains(name); });
  return names.empty() ? "unknown" : fmt::format("{}", fmt::join(names, " "));
}

// "always", "madvise" or "never": whether memory that asks for huge pages may get them.
std::string HugePages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");  // "always [madvise] never"
  for (std::string word; file >> word;) {
    if (word.starts_with('[')) return word.substr(1, word.size() - 2);
  }
  return "unknown";
}

Status PrintMachineSpeed() {
  const int most = NumProcessors();
  for (int threads : most > 1 ? std::vector{1, most} : std::vector{1}) {
    ThreadPool pool(threads);
    const Context ctx{.pool = pool};
    ASSIGN_OR_RETURN(const MachineSpeed speed, MeasureMachine(ctx));
    fmt::print("{:<17} {}\n", fmt::format("with {} thread{}", threads, threads == 1 ? "" : "s"),
               DescribeMachine(speed, ctx.kernels.name));
  }
  return {};
}

std::string TypesWith(const KernelTable& kernels, bool integer_products) {
  std::vector<std::string> names;
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    const int type = static_cast<int>(info.type);
    if (integer_products ? kernels.matmul_q[type] != nullptr : kernels.decode_row[type] != nullptr) {
      names.push_back(info.name);
    }
  }
  return fmt::format("{}", fmt::join(names, " "));
}

}  // namespace

void AddDoctor(CLI::App& app) {
  auto* command = app.add_subcommand("doctor", "Say what this machine offers and what Thimble uses of it");
  auto measure = std::make_shared<bool>(false);
  command->add_flag("--measure", *measure, "Also measure the memory and the int8 arithmetic (seconds)");
  command->callback(Runs([measure]() -> Status {
    ComputeFlags flags;
    ASSIGN_OR_RETURN(const Context ctx, flags.MakeContext());
    const KernelTable* tiers[kMaxTiers];
    const int n = SupportedKernels(tiers, kMaxTiers);
    std::vector<std::string> names;
    for (int i = 0; i < n; ++i) names.push_back(tiers[i]->name);
    const char* forced = std::getenv("THIMBLE_ISA");
    const bool is_forced = forced != nullptr && *forced != '\0';
    const std::string model = ProcValue("/proc/cpuinfo", "model name");

    fmt::print("thimble           {}\n", THIMBLE_VERSION);
    fmt::print("processor         {}\n", model.empty() ? "unknown" : model);
    fmt::print("cores             {} online, {} for this process\n", sysconf(_SC_NPROCESSORS_ONLN),
               NumProcessors());
    fmt::print("memory            {}\n", Memory());
    fmt::print("huge pages        {}\n", HugePages());
    fmt::print("instruction sets  {}\n", InstructionSets());
    fmt::print("kernels here      {} (best first)\n", fmt::join(names, " "));
    fmt::print("kernels used      {}: {}\n", ctx.kernels.name,
               is_forced ? "named by THIMBLE_ISA" : "the best that this processor runs");
    fmt::print("integer products  {}\n", TypesWith(ctx.kernels, true));
    fmt::print("decoded           {}\n", TypesWith(ctx.kernels, false));
    return *measure ? PrintMachineSpeed() : Status();
  }));
}

}  // namespace thimble

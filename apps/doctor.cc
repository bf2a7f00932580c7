#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "apps/common.h"
#include "codec/types.h"

namespace thimble {
namespace {

constexpr int kMaxTiers = 16;

// The value of a "key : value" line, as in /proc/cpuinfo; empty if there is none.
std::string ProcValue(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

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
  command->callback(Runs([]() -> Status {
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
    fmt::print("kernels here      {} (best first)\n", fmt::join(names, " "));
    fmt::print("kernels used      {}: {}\n", ctx.kernels.name,
               is_forced ? "named by THIMBLE_ISA" : "the best that this processor runs");
    fmt::print("integer products  {}\n", TypesWith(ctx.kernels, true));
    fmt::print("decoded           {}\n", TypesWith(ctx.kernels, false));
    return {};
  }));
}

}  // namespace thimble

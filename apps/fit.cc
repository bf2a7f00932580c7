#include <fmt/core.h>

#include <fstream>

#include "apps/common.h"
#include "base/clock.h"
#include "quant/calibrated_rounding.h"
#include "quant/solver.h"

namespace thimble {
namespace {

struct FitFlags {
  std::string in, out, calibration, size, costs;
  double max_kld = 0;
  int64_t windows = 0;
  int threads = 0;
};

Status Fit(FitFlags& flags) {
  ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(flags.in));
  ASSIGN_OR_RETURN(const std::string text, ReadTextOrStdin(flags.calibration));
  std::vector<TokenId> tokens = loaded.tokenizer->Encode(text, true, false);
  std::vector<std::vector<TokenId>> windows;
  for (size_t i = 0; i + 512 <= tokens.size(); i += 512) {
    windows.emplace_back(tokens.begin() + static_cast<int64_t>(i),
                         tokens.begin() + static_cast<int64_t>(i) + 512);
  }
  if (flags.windows > 0 && static_cast<int64_t>(windows.size()) > flags.windows)
    windows.resize(flags.windows);
  ThreadPool pool(flags.threads);
  ASSIGN_OR_RETURN(const Calibration calibration, Calibrate({.pool = pool, .compute = Compute::kF32},
                                                            *loaded.model, windows, TerminalProgress()));
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(flags.in));
  ASSIGN_OR_RETURN(ExportPlan plan, PlanFromModelFile(std::move(source)));
  using enum WeightType;
  const WeightType candidates[] = {kQ2_K,   kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_XS,
                                   kIQ4_NL, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0};
  ASSIGN_OR_RETURN(
      const std::vector<TensorCosts> costs,
      MeasureCosts(plan, calibration, loaded.model->config(), candidates, pool, TerminalProgress()));
  if (!flags.costs.empty()) {
    std::ofstream f(flags.costs);
    for (const TensorCosts& t : costs) {
      for (const TypeCost& c : t.choices)
        f << t.name << ' ' << Name(c.type) << ' ' << c.bytes << ' ' << c.kld << '\n';
    }
  }
  uint64_t other = 0;
  for (std::string s = flags.size; !s.empty();) {
    const size_t comma = s.find(',');
    const double mb = std::atof(s.c_str());
    ASSIGN_OR_RETURN(const TypeChoice choice, SolveForBytes(costs, static_cast<uint64_t>(mb * 1e6) - other));
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      plan.tensors[i].type = plan.tensors[i].wanted = costs[i].choices[choice.choice[i]].type;
    }
    const std::string out = fmt::format("{}-{}.gguf", flags.out, mb);
    ASSIGN_OR_RETURN(const ExportStats stats, WriteGgufFromPlan(plan, out, pool, TerminalProgress(), "fit",
                                                                RoundingBy(RoundingMethod::kGptq, calibration,
                                                                           loaded.model->config(), pool)));
    fmt::print("{} bytes {} predicted {:.5f}\n", out, stats.bytes_out, choice.kld);
    s = comma == std::string::npos ? "" : s.substr(comma + 1);
  }
  return {};
}

}  // namespace

void AddFit(CLI::App& app) {
  auto* command = app.add_subcommand("fit", "The best model that fits a budget");
  auto flags = std::make_shared<FitFlags>();
  command->add_option("MODEL", flags->in, "GGUF file or Hugging Face folder")->required();
  command->add_option("-o,--output", flags->out, "The GGUF file to write")->required();
  command->add_option("--calibration", flags->calibration, "text")->required();
  command->add_option("--size", flags->size, "e.g. 80MB");
  command->add_option("--windows", flags->windows, "x");
  command->add_option("--costs", flags->costs, "x");
  command->callback(Runs([flags] { return Fit(*flags); }));
}

}  // namespace thimble

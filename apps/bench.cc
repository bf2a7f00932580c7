#include <fmt/core.h>

#include "apps/common.h"
#include "base/json.h"
#include "eval/perplexity.h"
#include "eval/speed.h"

namespace thimble {

void AddBench(CLI::App& app) {
  struct Flags {
    std::string model;
    SpeedOptions speed;
    bool json = false;
    ComputeFlags compute;
  };
  auto* command = app.add_subcommand("bench", "Measure how fast a model reads and writes");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  command->add_option("-p,--n-prompt", flags->speed.n_prompt, "Tokens to read in one go")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("-n,--n-gen", flags->speed.n_gen, "Tokens to write, one after another")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("-r,--repeat", flags->speed.repeat, "Repetitions; their median is the figure")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  flags->compute.Add(*command);
  command->callback(Runs([flags]() -> Status {
    ASSIGN_OR_RETURN(const Context ctx, flags->compute.MakeContext());
    ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(flags->model));
    ASSIGN_OR_RETURN(const SpeedResult result, MeasureSpeed(ctx, *model, flags->speed, TerminalProgress()));
    const ModelSize size = MeasureSize(*model);
    if (flags->json) {
      Json json = {{"program", "thimble"},
                   {"model", flags->model},
                   {"kernels", ctx.kernels.name},
                   {"compute", flags->compute.compute},
                   {"threads", ctx.pool.n_threads()},
                   {"n_prompt", flags->speed.n_prompt},
                   {"n_gen", flags->speed.n_gen},
                   {"bytes", size.file_bytes},
                   {"peak_rss_bytes", result.peak_rss_bytes}};
      const auto add = [&](const std::string& name, const std::vector<double>& rates) {
        if (rates.empty()) return;
        json[name + "_tokens_per_second"] = Median(rates);
        json[name + "_repetitions"] = rates;
      };
      add("prefill", result.prefill);
      add("decode", result.decode);
      fmt::print("{}\n", DumpJson(json));
      return {};
    }
    fmt::print("{}: {}, kernels {}, compute {}, {} threads\n", flags->model, HumanBytes(size.file_bytes),
               ctx.kernels.name, flags->compute.compute, ctx.pool.n_threads());
    const auto print = [&](const char* what, int64_t n, const std::vector<double>& rates) {
      if (rates.empty()) return;
      const auto [low, high] = std::minmax_element(rates.begin(), rates.end());
      fmt::print("{} {:>5} tokens: {:>8.1f} tokens/s ({:.1f} to {:.1f})\n", what, n, Median(rates), *low,
                 *high);
    };
    print("reading", flags->speed.n_prompt, result.prefill);
    print("writing", flags->speed.n_gen, result.decode);
    fmt::print("peak memory: {}\n", HumanBytes(result.peak_rss_bytes));
    return {};
  }));
}

}  // namespace thimble

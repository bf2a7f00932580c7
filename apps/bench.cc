#include <fmt/core.h>

#include "apps/common.h"
#include "base/file.h"
#include "eval/speed_table.h"

namespace thimble {
namespace {

struct BenchFlags {
  std::vector<std::string> models;
  std::vector<int> threads{0};
  SpeedOptions speed;
  std::string format = "md", json;
  ComputeFlags compute;
  KvFlags kv;
};

Status Bench(BenchFlags flags) {
  ASSIGN_OR_RETURN(const Context defaults, flags.compute.MakeContext());
  std::vector<SpeedRow> rows;
  for (const std::string& path : flags.models) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(path));
    ASSIGN_OR_RETURN(flags.speed.kv, flags.kv.Resolve(model->config()));
    for (int threads : flags.threads) {
      ThreadPool pool(threads);
      const Context ctx{.pool = pool, .kernels = defaults.kernels, .compute = defaults.compute};
      ASSIGN_OR_RETURN(const std::vector<SpeedResult> results,
                       MeasureSpeed(ctx, *model, flags.speed, TerminalProgress()));
      AddSpeedRows(path, *model, ctx, flags.speed.kv, results, rows);
    }
  }
  MachineSpeeds machines;  // last, as its memory would count in the peaks
  for (int threads : flags.threads) {
    ThreadPool pool(threads);
    const Context ctx{.pool = pool, .kernels = defaults.kernels};
    ASSIGN_OR_RETURN(machines[pool.n_threads()], MeasureMachine(ctx));
  }
  if (!flags.json.empty()) {
    RETURN_IF_ERROR(WriteFileAtomically(flags.json, DumpJson(SpeedJson(rows, machines), 1) + "\n"));
  }
  if (flags.format == "json") {
    fmt::print("{}\n", DumpJson(SpeedJson(rows, machines), 1));
  } else {
    fmt::print("{}", flags.format == "csv" ? SpeedCsv(rows, machines) : SpeedMarkdown(rows, machines));
  }
  return {};
}

}  // namespace

void AddBench(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "Measure how fast models read and write");
  auto flags = std::make_shared<BenchFlags>();
  command->add_option("MODEL", flags->models, "GGUF files or Hugging Face folders")->required();
  const auto add_list = [&](const char* names, auto& values, int low, int high, const char* what) {
    command->add_option(names, values, what)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::Range(low, high))
        ->capture_default_str();
  };
  add_list("-p,--n-prompt", flags->speed.n_prompt, 0, 1 << 20, "Tokens to read in one go; several: 128,512");
  add_list("-n,--n-gen", flags->speed.n_gen, 0, 1 << 20,
           "Tokens to write, one after another; several: 32,128");
  add_list("-t,--threads", flags->threads, 0, 1024, "Threads (0: all processors); several: 1,2");
  command->add_option("-r,--repetitions", flags->speed.repeat, "Repetitions; their median is the figure")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("-o,--output", flags->format, "What to print: md (a table), json or csv")
      ->check(CLI::IsMember({"md", "json", "csv"}))
      ->capture_default_str();
  command->add_option("--json", flags->json, "Also write the figures here");
  flags->kv.Add(*command);
  flags->compute.AddCompute(*command);
  command->footer(
      "The bounds are measured in the same run: how fast these threads read memory, and how fast they could "
      "multiply "
      "int8 if that were all they did.");
  command->callback(Runs([flags] { return Bench(*flags); }));
}

}  // namespace thimble

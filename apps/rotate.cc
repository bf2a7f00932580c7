#include "quant/rotation.h"

#include <fmt/core.h>

#include "apps/common.h"

namespace thimble {
namespace {

struct RotateFlags {
  std::string in, out, outtype = "f16";
  uint64_t seed = 0;
  int threads = 0;
};

Status Rotate(const RotateFlags& flags) {
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(flags.in));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   source.gguf ? ModelConfigFromGguf(*source.gguf) : ModelConfigFromHf(*source.hf));
  ASSIGN_OR_RETURN(ExportPlan plan, PlanFromModelFile(std::move(source)));
  RETURN_IF_ERROR(ApplyMix({.type = flags.outtype, .pure = true}, plan));
  ThreadPool pool(flags.threads);
  RETURN_IF_ERROR(WriteRotatedGguf(plan, config, flags.seed, flags.out, pool, TerminalProgress()));
  const Rotations rotations = RotationsOf(config);
  fmt::print("{}: rotated the values of {} layers{}\n", flags.out, config.n_layers,
             rotations.residual ? " and the residual stream" : "");
  if (!rotations.residual) fmt::print("the residual stream stays as it was: {}\n", rotations.why_not);
  return {};
}

}  // namespace

void AddRotate(CLI::App& app) {
  auto* command =
      app.add_subcommand("rotate", "Rotate a model's hidden spaces, so that rounding it costs less");
  auto flags = std::make_shared<RotateFlags>();
  command->add_option("IN", flags->in, "GGUF file or Hugging Face folder, best in F16, BF16 or F32")
      ->required();
  command->add_option("-o,--output", flags->out, "The GGUF file to write")->required();
  command->add_option("--outtype", flags->outtype, "Type of the matrices")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}, CLI::ignore_case))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of the random rotations")->capture_default_str();
  command->add_option("-t,--threads", flags->threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
  command->footer(
      "The model computes what it did before. Rounding the result costs less where errors are fed back (fit, "
      "quantize --method gptq), and more where they are not. Adapters of the model that was rotated do not "
      "fit it.");
  command->callback(Runs([flags] { return Rotate(*flags); }));
}

}  // namespace thimble

#include "quant/imatrix.h"

#include <fmt/core.h>

#include "apps/common.h"

namespace thimble {
namespace {

struct ImatrixFlags {
  std::string in, out;
  CalibrationFlags calibration;
  ComputeFlags compute;
};

Status MakeImatrix(const ImatrixFlags& flags) {
  ASSIGN_OR_RETURN(const Context ctx, flags.compute.JoinContext());
  RETURN_IF_ERROR(CheckOutputFile(flags.in, flags.out));
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(flags.in));
  ASSIGN_OR_RETURN(const CalibrationOptions options, flags.calibration.Resolve());
  ASSIGN_OR_RETURN(const CachedCalibration calibrated, CalibrateModel(ctx, loaded, options));
  if (!ctx.ranks.first()) return {};
  ASSIGN_OR_RETURN(Imatrix imatrix, ImatrixOf(calibrated.calibration, loaded.model->config()));
  for (const TextPart& text : options.texts) imatrix.datasets.push_back(text.name);
  imatrix.chunk_size = options.n_ctx;
  imatrix.n_chunks = (calibrated.calibration.n_tokens() + options.n_ctx - 1) / options.n_ctx;
  RETURN_IF_ERROR(WriteImatrix(imatrix, flags.out));
  fmt::print("{}: {} matrices, {} tokens\n", flags.out, imatrix.mean_squares.size(),
             calibrated.calibration.n_tokens());
  return {};
}

}  // namespace

void AddImatrix(CLI::App& app) {
  auto* command =
      app.add_subcommand("imatrix", "Measure which weights a text uses, for quantize and llama.cpp");
  auto flags = std::make_shared<ImatrixFlags>();
  command->add_option("MODEL", flags->in, "GGUF file or Hugging Face folder")->required();
  command->add_option("-o,--output", flags->out, "The GGUF file to write")->required();
  flags->calibration.Add(*command);
  command->add_option("-t,--threads", flags->compute.threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
  command->callback(Runs([flags] { return MakeImatrix(*flags); }));
}

}  // namespace thimble

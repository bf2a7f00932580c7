#include <fmt/core.h>

#include <filesystem>

#include "apps/common.h"
#include "quant/convert_adapter.h"
#include "quant/hf_export.h"

namespace thimble {
namespace {

struct Flags {
  std::string in, out, outtype, base;
  bool portable = false;
  int threads = 0;
};

// A GGUF file in types that every reader of GGUF knows.
Status ConvertToPortable(const Flags& flags, ModelFile source) {
  if (!flags.outtype.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "--portable chooses the types: leave --outtype out");
  }
  RETURN_IF_ERROR(CheckOutputFile(flags.in, flags.out));
  ASSIGN_OR_RETURN(ExportPlan plan, PlanFromGguf(std::move(source)));
  const auto n_native =
      std::ranges::count_if(plan.tensors, [](const ExportTensor& t) { return IsNative(t.type); });
  MakePortable(plan);
  ThreadPool pool(flags.threads);
  ASSIGN_OR_RETURN(const ExportStats stats,
                   WriteGgufFromPlan(plan, flags.out, pool, TerminalProgress(), "convert"));
  fmt::print("{}: {} of {} tensors rounded to GGUF's types, {}, {:.2f} bits per weight\n", flags.out,
             n_native, stats.tensors.size(), HumanBytes(static_cast<int64_t>(stats.bytes_out)),
             stats.bits_per_weight());
  return {};
}

Status ConvertModel(const Flags& flags, bool to_gguf) {
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(flags.in));
  if (flags.portable && source.gguf && to_gguf) return ConvertToPortable(flags, std::move(source));
  if (flags.portable) {
    return MakeError(ErrorCode::kInvalidArgument, "--portable makes a GGUF file of a GGUF file");
  }
  if (source.gguf.has_value() == to_gguf) {
    return MakeError(ErrorCode::kInvalidArgument, "{} and {} are both {}", flags.in, flags.out,
                     to_gguf ? "GGUF files; see thimble quantize and dequantize for other types"
                             : "Hugging Face folders; end the output's name in .gguf");
  }
  ThreadPool pool(flags.threads);
  if (to_gguf) {
    ASSIGN_OR_RETURN(ExportPlan plan, PlanFromHf(std::move(source)));
    if (!flags.outtype.empty()) RETURN_IF_ERROR(ApplyMix({.type = flags.outtype, .pure = true}, plan));
    ASSIGN_OR_RETURN(const ExportStats stats,
                     WriteGgufFromPlan(plan, flags.out, pool, TerminalProgress(), "convert"));
    fmt::print("{}: {} tensors, {}, {:.2f} bits per weight\n", flags.out, stats.tensors.size(),
               HumanBytes(static_cast<int64_t>(stats.bytes_out)), stats.bits_per_weight());
    for (const std::string& line : DescribeImport(plan.source.hf->imported)) fmt::print("{}\n", line);
    return {};
  }
  HfExportOptions options;
  if (!flags.outtype.empty()) {
    options.type = ParseWeightType(flags.outtype);
    if (!options.type) {
      return MakeError(ErrorCode::kInvalidArgument, "--outtype: unknown type '{}'", flags.outtype);
    }
  }
  ASSIGN_OR_RETURN(const ExportStats stats,
                   WriteHfDirectory(source, options, flags.out, pool, TerminalProgress(), "convert"));
  fmt::print("{}: {} tensors, {}\n", flags.out, stats.tensors.size(),
             HumanBytes(static_cast<int64_t>(stats.bytes_out)));
  return {};
}

Status Convert(const Flags& flags) {
  const bool to_gguf = flags.out.ends_with(".gguf");
  if (!IsAdapter(flags.in)) return ConvertModel(flags, to_gguf);
  if (flags.portable) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: an adapter has no types of Thimble's own", flags.in);
  }
  if (flags.base.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: an adapter needs --base MODEL, the model that it is for", flags.in);
  }
  std::error_code ec;
  if (std::filesystem::is_directory(flags.in, ec) != to_gguf) {
    return MakeError(ErrorCode::kInvalidArgument, "{} and {} are both {}", flags.in, flags.out,
                     to_gguf ? "GGUF files" : "PEFT folders");
  }
  const auto type = ParseWeightType(flags.outtype.empty() ? "F32" : flags.outtype);
  if (!type || !Info(*type).decodable || Info(*type).block_size > 32) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "--outtype: an adapter can be F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0 or IQ4_NL, not '{}'",
        flags.outtype);
  }
  if (*type != WeightType::kF32 && !to_gguf) {
    return MakeError(ErrorCode::kInvalidArgument, "--outtype: a PEFT folder is written in F32");
  }
  RETURN_IF_ERROR(ConvertAdapter(flags.in, flags.base, flags.out, *type));
  fmt::print("{}: converted for {}\n", flags.out, flags.base);
  return {};
}

}  // namespace

void AddConvert(CLI::App& app) {
  auto* command = app.add_subcommand("convert",
                                     "Convert a model or adapter between Hugging Face's folders and GGUF, or "
                                     "a GGUF file into types that every reader knows");
  auto flags = std::make_shared<Flags>();
  command->add_option("IN", flags->in, "GGUF file or folder")->required();
  command
      ->add_option("-o,--output", flags->out, "A name that ends in .gguf is a GGUF file, any other a folder")
      ->required();
  command->add_option(
      "--outtype", flags->outtype,
      "Type of the matrices: f32, f16, bf16, to GGUF also q8_0 and the others of thimble quantize "
      "(default: the input's, F16 for a folder made of quantized weights; GPTQ, AWQ and compressed-tensors "
      "keep "
      "their numbers in GGUF's types where those can hold them; of an adapter F32)");
  command->add_flag(
      "--portable", flags->portable,
      "Round Thimble's own types (T2 to T5) to GGUF's, a little finer; other tensors are copied");
  command->add_option("--base", flags->base, "For an adapter: the model that it belongs to");
  command->add_option("-t,--threads", flags->threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
  command->callback(Runs([flags] { return Convert(*flags); }));
}

}  // namespace thimble

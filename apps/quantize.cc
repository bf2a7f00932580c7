#include <fmt/core.h>

#include <filesystem>

#include "apps/common.h"
#include "base/clock.h"
#include "quant/export_plan.h"
#include "quant/imatrix.h"
#include "quant/method_choice.h"

namespace thimble {
namespace {

Result<std::optional<WeightType>> ParseType(const char* flag, const std::string& name) {
  if (name.empty()) return std::nullopt;
  const auto type = ParseWeightType(name);
  if (!type || !Info(*type).decodable) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: unknown weight type '{}'", flag, name);
  }
  return type;
}

void PrintSummary(const ExportPlan& plan, const ExportStats& stats, const std::string& out, double seconds) {
  const uint64_t before = FileBytes(plan.source);
  std::error_code ec;
  const uint64_t after = std::filesystem::file_size(out, ec);
  fmt::print("{}: {} -> {} ({:.1f} %), {:.2f} bits per weight\n", out,
             HumanBytes(static_cast<int64_t>(before)), HumanBytes(static_cast<int64_t>(after)),
             100.0 * static_cast<double>(after) / static_cast<double>(before), stats.bits_per_weight());
  if (const double error = stats.relative_error(); error > 0) {
    fmt::print("relative error of the weights that were rounded: {:.3f} % (root mean square)\n", 100 * error);
  }
  if (const int64_t n = stats.n_fallback(); n > 0) {
    fmt::print(
        "{} of {} tensors ({:.1f} % of the weights) have rows that are not whole blocks of the wanted type "
        "and "
        "fell back to another, which {} {:.2f} bits per weight over the model\n",
        n, stats.tensors.size(), 100 * stats.fallback_share(), stats.fallback_bits() >= 0 ? "added" : "saved",
        std::abs(stats.fallback_bits()));
  }
  if (const int64_t n = stats.n_requantized(); n > 0) {
    fmt::print(
        "note: {} tensors were quantized already; their error adds to the new one. Start from F16 or F32 "
        "where you can\n",
        n);
  }
  if (plan.source.hf) {
    for (const std::string& line : DescribeImport(plan.source.hf->imported)) fmt::print("note: {}\n", line);
  }
  fmt::print("{:.1f} s\n", seconds);
}

struct QuantizeFlags {
  std::string in, out, output_type, embedding_type;
  std::vector<std::string> tensor_types;
  MixOptions mix;
  int threads = 0;
  std::string method = "rtn", imatrix;
  CalibrationFlags calibration;
};

// How weights are rounded, and what that is made from.
struct Rounding {
  LoadedModel loaded;
  CachedCalibration calibrated;
  Methods methods;
  Imatrix imatrix;
  RoundingFor rounding;
};

// As llama.cpp refuses it: the result would be of little use.
Status CheckImportance(const QuantizeFlags& flags, const MixRow& mix, const ExportPlan& plan) {
  if (flags.method != "rtn" || !flags.imatrix.empty()) return {};
  for (const ExportTensor& t : plan.tensors) {
    if (!IsRounded(t) || !NeedsImportance(mix, t.name, t.type)) continue;
    return MakeError(
        ErrorCode::kInvalidArgument,
        "--type {}: '{}' would become {}, which needs to know what text uses: give --imatrix FILE, or "
        "--method imatrix, awq, gptq or auto",
        mix.name, t.name, Name(t.type));
  }
  return {};
}

Status CheckMethod(const QuantizeFlags& flags) {
  if (!flags.imatrix.empty() && flags.method != "rtn" && flags.method != "imatrix") {
    return MakeError(ErrorCode::kInvalidArgument,
                     "--method {} needs more than an importance matrix: leave --imatrix out", flags.method);
  }
  if (flags.calibration.given() && (flags.method == "rtn" || !flags.imatrix.empty())) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the --calibration flags have no use here: {} (give --method imatrix, awq, gptq "
                     "or auto)",
                     flags.imatrix.empty() ? "--method rtn does not calibrate" : "--imatrix stands instead");
  }
  return {};
}

Status PrepareRounding(const QuantizeFlags& flags, ThreadPool& pool, ExportPlan& plan, Rounding& out) {
  if (!flags.imatrix.empty()) {
    ASSIGN_OR_RETURN(out.imatrix, ReadImatrix(flags.imatrix));
    RETURN_IF_ERROR(CheckImatrix(out.imatrix, plan, flags.imatrix));
    out.rounding = RoundingBy(out.imatrix);
  } else if (flags.method != "rtn") {
    ASSIGN_OR_RETURN(out.loaded, LoadModel(flags.in));
    ASSIGN_OR_RETURN(const CalibrationOptions options, flags.calibration.Resolve());
    const Context ctx{.pool = pool};
    ASSIGN_OR_RETURN(out.calibrated, CalibrateModel(ctx, out.loaded, options));
    const ModelConfig& config = out.loaded.model->config();
    ASSIGN_OR_RETURN(out.methods, ChooseMethods(*FindMethod(flags.method), out.calibrated.calibration, config,
                                                pool, TerminalProgress(), plan));
    out.rounding = RoundingBy(out.methods, out.calibrated.calibration, pool);
  }
  return {};
}

Status Quantize(QuantizeFlags& flags, const std::string& stage) {
  MixOptions& mix = flags.mix;
  ASSIGN_OR_RETURN(const MixRow* row, FindMix(mix.type));
  for (const std::string& text : flags.tensor_types) {
    ASSIGN_OR_RETURN(TypeOverride parsed, ParseTypeOverride(text));
    mix.overrides.push_back(std::move(parsed));
  }
  ASSIGN_OR_RETURN(mix.output_type, ParseType("--output-tensor-type", flags.output_type));
  ASSIGN_OR_RETURN(mix.embedding_type, ParseType("--token-embedding-type", flags.embedding_type));
  RETURN_IF_ERROR(CheckMethod(flags));
  RETURN_IF_ERROR(CheckOutputFile(flags.in, flags.out));
  const double begin = Seconds();
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(flags.in));
  ASSIGN_OR_RETURN(ExportPlan plan, PlanFromModelFile(std::move(source)));
  RETURN_IF_ERROR(ApplyMix(mix, plan));
  RETURN_IF_ERROR(CheckImportance(flags, *row, plan));
  ThreadPool pool(flags.threads);
  const std::string title = stage + " to " + row->name;
  Rounding rounding;
  RETURN_IF_ERROR(PrepareRounding(flags, pool, plan, rounding));
  ASSIGN_OR_RETURN(const ExportStats stats,
                   WriteGgufFromPlan(plan, flags.out, pool, TerminalProgress(), title, rounding.rounding));
  PrintSummary(plan, stats, flags.out, Seconds() - begin);
  if (!rounding.methods.own.empty()) fmt::print("rounded by: {}\n", DescribeMethods(rounding.methods, plan));
  return {};
}

void AddCommon(CLI::App& command, QuantizeFlags& flags) {
  command.add_option("IN", flags.in, "GGUF file or Hugging Face folder")->required();
  command.add_option("-o,--output", flags.out, "The GGUF file to write")->required();
  command.add_option("-t,--threads", flags.threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
}

std::string TypeNames() {
  std::string names = "int8";
  for (const MixRow& row : AllMixes()) names += std::string(", ") + row.name;
  return names;
}

std::vector<std::string> MethodNames() {
  std::vector<std::string> names;
  for (const MethodRow& row : AllMethods()) names.emplace_back(row.name);
  return names;
}

std::string MethodHelp() {
  std::string help;
  for (const MethodRow& row : AllMethods()) {
    help += fmt::format("{}{}: {}", help.empty() ? "" : "; ", row.name, row.help);
  }
  return help;
}

}  // namespace

void AddQuantize(CLI::App& app) {
  auto* command = app.add_subcommand("quantize", "Make a model smaller by rounding its weights");
  auto flags = std::make_shared<QuantizeFlags>();
  AddCommon(*command, *flags);
  command->add_option("--type", flags->mix.type, "One of " + TypeNames() + "; int8 is Q8_0")->required();
  command->add_option(
      "--tensor-type", flags->tensor_types,
      "PATTERN=TYPE for tensors whose name the regular expression matches, e.g. attn_v=Q8_0; the "
      "first match wins; repeatable");
  command->add_option("--output-tensor-type", flags->output_type, "Type of output.weight");
  command->add_option("--token-embedding-type", flags->embedding_type, "Type of token_embd.weight");
  command->add_option("--method", flags->method, MethodHelp())
      ->check(CLI::IsMember(MethodNames()))
      ->capture_default_str();
  command->add_option("--imatrix", flags->imatrix,
                      "An importance matrix (thimble imatrix, llama-imatrix; GGUF) instead of a calibration");
  flags->calibration.Add(*command);
  command->add_flag("--pure", flags->mix.pure, "One type for all matrices, without the mix's exceptions");
  command->footer(
      "Types by tensor, and what rows that are not whole blocks fall back to, are llama.cpp's. A model that "
      "is "
      "quantized already is rounded a second time (llama.cpp's --allow-requantize), and the summary says "
      "so.");
  command->callback(Runs([flags] { return Quantize(*flags, "quantize"); }));
}

void AddDequantize(CLI::App& app) {
  auto* command = app.add_subcommand("dequantize", "Write a quantized model's weights as plain numbers");
  auto flags = std::make_shared<QuantizeFlags>();
  flags->mix.type = "F16";
  AddCommon(*command, *flags);
  command->add_option("--type", flags->mix.type, "F16, F32 or BF16")
      ->check(CLI::IsMember({"F16", "F32", "BF16"}, CLI::ignore_case))
      ->capture_default_str();
  command->callback(Runs([flags] { return Quantize(*flags, "dequantize"); }));
}

}  // namespace thimble

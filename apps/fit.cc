#include "eval/fit.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "apps/common.h"
#include "apps/scoring.h"
#include "base/clock.h"
#include "formats/model_hash.h"

namespace thimble {
namespace {

struct FitFlags {
  std::string in, out, size, ram;
  double bits_per_weight = 0, min_top1 = 0, minutes = 0;
  std::vector<std::string> max_kld, types;
  bool native = false;
  int64_t ctx_size = 4096;
  CalibrationFlags calibration;
  ComputeFlags compute;
  KvFlags kv;
  RecordFlags record;
};

Result<FitGoal> GoalOf(const FitFlags& flags) {
  FitGoal goal;
  if (!flags.size.empty()) {
    ASSIGN_OR_RETURN(goal.file_bytes, ParseBytes("--size", flags.size));
  }
  if (!flags.ram.empty()) {
    ASSIGN_OR_RETURN(goal.ram_bytes, ParseBytes("--ram", flags.ram));
  }
  if (flags.bits_per_weight > 0) goal.bits_per_weight = flags.bits_per_weight;
  if (flags.min_top1 > 0) goal.min_top1 = flags.min_top1;
  for (const std::string& text : flags.max_kld) {
    const size_t equals = text.rfind('=');
    const std::string part = equals == std::string::npos ? "" : text.substr(0, equals);
    const std::string number = equals == std::string::npos ? text : text.substr(equals + 1);
    char* end = nullptr;
    const double most = std::strtod(number.c_str(), &end);
    if (end == number.c_str() || *end != '\0' || !(most > 0 && std::isfinite(most))) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--max-kld: '{}' is not NATS or TEXT=NATS, e.g. 0.05 or ko=0.08", text);
    }
    goal.max_kld[part] = most;
  }
  if (!goal.file_bytes && !goal.ram_bytes && !goal.bits_per_weight && !goal.min_top1 &&
      goal.max_kld.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "give a budget: --size, --ram or --bpw, or a quality: --max-kld or --min-top1");
  }
  return goal;
}

Result<FitOptions> OptionsOf(const FitFlags& flags, std::vector<EvalInput>& inputs) {
  FitOptions options{.native = flags.native};
  ASSIGN_OR_RETURN(options.calibration, flags.calibration.Resolve(&inputs));
  options.ram_ctx = flags.ctx_size;
  options.max_seconds = 60 * flags.minutes;
  for (const std::string& name : flags.types) {
    const auto type = ParseWeightType(name);
    if (!type || !Info(*type).quantized) {
      return MakeError(ErrorCode::kInvalidArgument, "--types: '{}' is not a quantized type", name);
    }
    if (IsNative(*type) && !flags.native) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          "--types: {} is Thimble's own, which other programs do not read; give --native to use it",
          Name(*type));
    }
    options.types.push_back(*type);
  }
  return options;
}

void PrintScores(const char* title, const std::vector<PartScore>& scores) {
  if (scores.empty()) return;
  fmt::print("\n{:<24}{:>8}{:>12}{:>10}{:>10}{:>12}\n", title, "tokens", "KL", "+-", "top-1", "perplexity");
  for (const PartScore& s : scores) {
    fmt::print("{:<24}{:>8}{:>12.4f}{:>10.4f}{:>8.1f} %{:>+10.2f} %\n", s.part, s.n_tokens, s.kld,
               1.96 * s.kld_se, 100 * s.top1, 100 * (s.ppl_ratio - 1));
  }
}

Json ScoresJson(const std::vector<PartScore>& scores) {
  Json rows = Json::array();
  for (const PartScore& s : scores) {
    rows.push_back({{"text", s.part},
                    {"tokens", s.n_tokens},
                    {"kld_mean", s.kld},
                    {"kld_se", s.kld_se},
                    {"top1_agreement", s.top1},
                    {"ppl_ratio", s.ppl_ratio}});
  }
  return rows;
}

// Of the matrices with more than one type to choose from, those whose rows K- and IQ-types cannot hold.
struct NarrowCount {
  int64_t narrow = 0, matrices = 0;
};
NarrowCount NarrowMatrices(const Fit& fit) {
  NarrowCount count;
  for (size_t i = 0; i < fit.costs().size(); ++i) {
    if (fit.costs()[i].choices.size() == 1) continue;
    ++count.matrices;
    count.narrow += fit.plan().tensors[i].source.row_size() % 256 != 0;
  }
  return count;
}

void Print(const Fit& fit, const FitFlags& flags, const FitResult& r) {
  const uint64_t before = FileBytes(fit.plan().source);
  fmt::print("{}: {} -> {} ({:.1f} %), {:.2f} bits per weight\n", flags.out,
             HumanBytes(static_cast<int64_t>(before)), HumanBytes(static_cast<int64_t>(r.file_bytes)),
             100.0 * static_cast<double>(r.file_bytes) / static_cast<double>(before),
             r.stats.bits_per_weight());
  struct Row {
    int64_t tensors = 0, weights = 0;
    double kld = 0;
  };
  std::map<std::string, Row> rows;
  for (size_t i = 0; i < fit.costs().size(); ++i) {
    const TensorCosts& t = fit.costs()[i];
    const ExportTensor& tensor = fit.plan().tensors[i];
    const TypeCost& chosen = t.choices[r.choice.choice[i]];
    Row& row = rows[Name(chosen.type)];
    ++row.tensors;
    row.weights += tensor.source.n_elements();
    row.kld += r.tensor_kld[i];
  }
  fmt::print("\n{:<10}{:>9}{:>14}{:>15}\n", "type", "tensors", "weights", "expected KL");
  for (const auto& [name, row] : rows) {
    fmt::print("{:<10}{:>9}{:>12.1f} %{:>15.4f}\n", name, row.tensors,
               100.0 * static_cast<double>(row.weights) / static_cast<double>(r.stats.n_weights), row.kld);
  }
  if (const auto [narrow, matrices] = NarrowMatrices(fit); narrow > 0) {
    fmt::print(
        "{} of {} matrices have rows that are not multiples of 256: no K- or IQ-type but IQ4_NL can hold "
        "them\n",
        narrow, matrices);
  }
  fmt::print("\nKL divergence expected: {:.4f} ({:.4f} of it by int8 activations)", r.predicted_kld,
             r.activation_kld);
  if (!r.selection.empty()) {
    const PartScore& all = r.selection.front();
    fmt::print(", measured on text kept to choose by: {:.4f} +- {:.4f}", all.kld, 1.96 * all.kld_se);
  }
  fmt::print("\nmemory expected with {} tokens of {}/{} cache: {}\n", flags.ctx_size, Name(r.kv.k),
             Name(r.kv.v), HumanBytes(static_cast<int64_t>(r.ram_bytes)));
  PrintScores("text kept to score", r.scoring);
}

Json ToJson(const FitGoal& goal) {
  Json json = Json::object();
  if (goal.file_bytes) json["bytes"] = *goal.file_bytes;
  if (goal.ram_bytes) json["ram_bytes"] = *goal.ram_bytes;
  if (goal.bits_per_weight) json["bits_per_weight"] = *goal.bits_per_weight;
  for (const auto& [text, most] : goal.max_kld) json["max_kld"][text.empty() ? "all" : text] = most;
  if (goal.min_top1) json["min_top1"] = *goal.min_top1;
  return json;
}

// How many documents of each text serve each purpose.
Json TextsJson(const std::vector<TextPart>& texts) {
  Json rows = Json::array();
  for (const TextPart& text : texts) {
    const auto count = [&](TextPurpose purpose) { return Deal(text, purpose).documents.size(); };
    rows.push_back({{"name", text.name},
                    {"calibration", count(TextPurpose::kCalibration)},
                    {"selection", count(TextPurpose::kSelection)},
                    {"scoring", count(TextPurpose::kScoring)}});
  }
  return rows;
}

Json TensorsJson(const Fit& fit, const FitResult& r) {
  Json tensors = Json::array();
  for (size_t i = 0; i < fit.costs().size(); ++i) {
    const TensorCosts& t = fit.costs()[i];
    const TypeCost& chosen = t.choices[r.choice.choice[i]];
    tensors.push_back({{"name", t.name},
                       {"type", Name(chosen.type)},
                       {"shape", fit.plan().tensors[i].shape()},
                       {"weights", r.stats.tensors[i].n_weights},
                       {"bytes", chosen.bytes},
                       {"expected_kld", r.tensor_kld[i]},
                       {"relative_error", chosen.relative_error}});
  }
  return tensors;
}

Json ToJson(const Fit& fit, const FitFlags& flags, const FitGoal& goal, const FitOptions& options,
            const std::vector<EvalInput>& inputs, const FitResult& r, double seconds,
            const std::string& command) {
  Json front = Json::array(), types = Json::array();
  for (const Fit::FrontPoint& point : fit.Front(24))
    front.push_back({{"bytes", point.file_bytes}, {"kld", point.kld}});
  for (const auto& [type, n_other, point] : fit.TypePoints()) {
    types.push_back(
        {{"type", Name(type)}, {"bytes", point.file_bytes}, {"kld", point.kld}, {"other", n_other}});
  }
  const EvalInput model{flags.in, static_cast<int64_t>(FileBytes(fit.plan().source)),
                        HashModel(fit.plan().source)};
  Json hashes = {ToJson(model)};
  for (const EvalInput& input : inputs) hashes.push_back(ToJson(input));
  const auto [narrow, matrices] = NarrowMatrices(fit);
  return {{"kind", "fit"},
          {"command", command},
          {"thimble_version", THIMBLE_VERSION},
          {"model", flags.in},
          {"model_bytes", model.bytes},
          {"output", flags.out},
          {"goal", ToJson(goal)},
          {"bytes", r.file_bytes},
          {"bits_per_weight", r.stats.bits_per_weight()},
          {"expected_kld", r.predicted_kld},
          {"activation_kld", r.activation_kld},
          {"cache_type_k", Name(r.kv.k)},
          {"cache_type_v", Name(r.kv.v)},
          {"expected_ram_bytes", r.ram_bytes},
          {"selection", ScoresJson(r.selection)},
          {"scoring", ScoresJson(r.scoring)},
          {"texts", TextsJson(options.calibration.texts)},
          {"ctx_size", options.calibration.n_ctx},
          {"front", front},
          {"types", types},
          {"matrices", matrices},
          {"narrow_matrices", narrow},
          {"tensors", TensorsJson(fit, r)},
          {"inputs", hashes},
          {"seconds", seconds}};
}

Status RunFit(FitFlags& flags, const std::string& command) {
  const double begin = Seconds();
  ASSIGN_OR_RETURN(const FitGoal goal, GoalOf(flags));
  std::vector<EvalInput> inputs;
  ASSIGN_OR_RETURN(FitOptions options, OptionsOf(flags, inputs));
  ASSIGN_OR_RETURN(const Context ctx, flags.compute.MakeContext());
  RETURN_IF_ERROR(CheckOutputFile(flags.in, flags.out));
  for (const std::string& path : {flags.record.json, flags.record.report}) {
    if (!path.empty()) RETURN_IF_ERROR(CheckOutputFile(flags.in, path));
  }
  for (const auto& [name, most] : goal.max_kld) {
    const auto& texts = options.calibration.texts;
    if (name.empty() || std::ranges::find(texts, name, &TextPart::name) != texts.end()) continue;
    return MakeError(ErrorCode::kInvalidArgument, "--max-kld: none of the texts is called '{}'", name);
  }
  if (flags.kv.given()) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(flags.in));
    ASSIGN_OR_RETURN(options.kv, flags.kv.Resolve(model->config()));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Fit> fit, Fit::Prepare(ctx, flags.in, options, TerminalProgress()));
  auto result = fit->Run(goal, flags.out, TerminalProgress());
  if (!result && result.error().code == ErrorCode::kNotFound) {
    std::string front;
    for (const Fit::FrontPoint& point : fit->Front(9)) {
      front +=
          fmt::format("\n  {:>10}  KL {:.4f}", HumanBytes(static_cast<int64_t>(point.file_bytes)), point.kld);
    }
    return MakeError(ErrorCode::kNotFound,
                     "nothing fits: {}. What this model can be (file, expected KL divergence):{}",
                     result.error().message, front);
  }
  if (!result) return tl::unexpected(result.error());
  Print(*fit, flags, *result);
  const double seconds = Seconds() - begin;
  fmt::print("\n{:.1f} s; calibration and costs are kept in {}\n", seconds, fit->cache_path());
  return flags.record.Write(ToJson(*fit, flags, goal, options, inputs, *result, seconds, command),
                            std::filesystem::path(flags.out).filename());
}

}  // namespace

void AddFit(CLI::App& app) {
  auto* command =
      app.add_subcommand("fit", "Make the best model that fits a budget, and measure what it cost");
  auto flags = std::make_shared<FitFlags>();
  command->add_option("MODEL", flags->in, "GGUF file or Hugging Face folder, best in F16, BF16 or F32")
      ->required();
  command->add_option("-o,--output", flags->out, "The GGUF file to write")->required();
  command->add_option("--size", flags->size, "Size of the file at most, e.g. 80MB");
  command->add_option("--ram", flags->ram, "Memory at most: weights, keys and values, and the program");
  command->add_option("--bpw", flags->bits_per_weight, "Bits per weight at most, over the whole model")
      ->check(CLI::PositiveNumber);
  command->add_option(
      "--max-kld", flags->max_kld,
      "KL divergence from MODEL at most, in nats per token, with the least size; TEXT=NATS for one of "
      "the texts, e.g. ko=0.05; repeatable");
  command
      ->add_option("--min-top1", flags->min_top1,
                   "Share of tokens at least whose likeliest guess stays, e.g. 0.9")
      ->check(CLI::Range(0.0, 1.0));
  flags->calibration.Add(*command);
  command
      ->add_option("--types", flags->types, "Weight types to choose from (default: all that are quantized)")
      ->delimiter(',');
  command->add_flag(
      "--native,!--portable", flags->native,
      "Use Thimble's own types T2 to T5 as well: of 2 to 5 bits for every row that 32 divides, which "
      "other programs do not read (default: --portable, GGUF's types alone)");
  command->add_option("-c,--ctx-size", flags->ctx_size, "Tokens of keys and values that --ram counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  flags->kv.Add(*command);
  command
      ->add_option("--minutes", flags->minutes,
                   "Calibrate in half of them at most, and measure costs in the rest; original and file are "
                   "scored all the same")
      ->check(CLI::PositiveNumber);
  flags->record.Add(*command);
  command->add_option("-t,--threads", flags->compute.threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
  command->footer(
      "Without --native, types are GGUF's, so the file runs wherever GGUF runs; thimble convert --portable "
      "makes such "
      "a file of a native one. Each matrix is rounded with its errors fed "
      "back (GPTQ), "
      "weighted by how much the model's predictions depend on it.");
  command->callback(Runs([flags, command] { return RunFit(*flags, CommandLine(*command)); }));
}

}  // namespace thimble

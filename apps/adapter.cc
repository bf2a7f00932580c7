#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "apps/common.h"
#include "formats/model_hash.h"
#include "quant/convert_adapter.h"
#include "quant/inspect.h"
#include "quant/merge_adapter.h"

namespace thimble {
namespace {

struct ListFlags {
  std::string folder, base;
};

std::string Text(const Json& info, const char* key) {
  const auto value = info.find(key);
  if (value == info.end()) return "";
  return value->is_string() ? value->get<std::string>() : DumpJson(*value);
}

Status List(const ListFlags& flags) {
  std::string fingerprint;
  if (!flags.base.empty()) {
    ASSIGN_OR_RETURN(const ModelFile base, OpenModelFile(flags.base));
    fingerprint = Fingerprint(base);
  }
  std::error_code ec;
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(flags.folder, ec)) {
    if (IsAdapter(entry.path().string())) paths.push_back(entry.path().string());
  }
  if (ec) return MakeError(ErrorCode::kIo, "{}: cannot be read: {}", flags.folder, ec.message());
  std::ranges::sort(paths);
  fmt::print("{:<28} {:<14} {:>5} {:>11} {:>10} {:>10}{}\n", "adapter", "method", "rank", "parameters",
             "size", "eval loss", fingerprint.empty() ? "" : "  base");
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(const Json info, Inspect(path, false));
    const Json& notes = info["metadata"];
    std::string method = Text(notes, kMethodNote), base;
    if (method.empty()) method = Text(info, "peft_type");
    if (!fingerprint.empty()) {
      const std::string own = Text(notes, kBaseNote);
      base = own.empty() ? "  unknown" : own == fingerprint ? "  this" : "  another";
    }
    fmt::print("{:<28} {:<14} {:>5} {:>11} {:>10} {:>10}{}\n",
               std::filesystem::path(path).filename().string(), method, Text(info, "rank"),
               Text(info, "n_parameters"), HumanBytes(info["bytes"].get<int64_t>()),
               Text(notes, "thimble.eval_loss"), base);
  }
  return {};
}

struct MergeFlags {
  std::string base, adapter, out, outtype;
  int threads = 0;
};

void PrintMerged(const std::vector<MergedTensor>& merged) {
  struct Row {
    int64_t tensors = 0;
    double change = 0, survived = 0, noise = 0;
  };
  std::map<std::string, Row> rows;
  for (const MergedTensor& t : merged) {
    Row& row = rows[Name(t.type)];
    ++row.tensors;
    row.change += t.change;
    row.survived += t.survived;
    row.noise += t.noise;
  }
  fmt::print("\n{:<8} {:>8} {:>18} {:>12} {:>22}\n", "type", "tensors", "change of weights", "of it kept",
             "rounding / change");
  bool drowned = false;
  for (const auto& [type, row] : rows) {
    const double n = static_cast<double>(row.tensors);
    fmt::print("{:<8} {:>8} {:>16.2f} % {:>10.0f} % {:>22.2f}\n", type, row.tensors, 100 * row.change / n,
               100 * row.survived / n, row.noise / n);
    drowned |= row.noise > n || row.survived < 0.5 * n;
  }
  if (drowned) {
    fmt::print(
        "Warning: rounding erases or drowns what the adapter changes. Keep it beside the base, or merge into "
        "a finer "
        "--outtype, e.g. Q8_0 or F16.\n");
  }
}

Status Merge(const MergeFlags& flags) {
  RETURN_IF_ERROR(CheckOutputFile(flags.base, flags.out));
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(flags.base));
  ASSIGN_OR_RETURN(const LoadedAdapters loaded, LoadAdapters({flags.adapter}, *model));
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(flags.base));
  ASSIGN_OR_RETURN(ExportPlan plan, PlanFromModelFile(std::move(source)));
  if (!flags.outtype.empty()) RETURN_IF_ERROR(ApplyMix({.type = flags.outtype}, plan));
  RETURN_IF_ERROR(MergeAdapter(*loaded.applied[0].adapter, loaded.applied[0].scale, *model, plan));
  ThreadPool pool(flags.threads);
  ASSIGN_OR_RETURN(const ExportStats stats,
                   WriteGgufFromPlan(plan, flags.out, pool, TerminalProgress(), "merge"));
  ASSIGN_OR_RETURN(const std::vector<MergedTensor> merged, MeasureMerge(plan, flags.out));
  fmt::print("{}: {}, {} of {} tensors changed\n", flags.out,
             HumanBytes(static_cast<int64_t>(stats.bytes_out)), merged.size(), plan.tensors.size());
  PrintMerged(merged);
  return {};
}

void AddList(CLI::App& app) {
  auto* command = app.add_subcommand("list", "The adapters in a folder");
  auto flags = std::make_shared<ListFlags>();
  command->add_option("FOLDER", flags->folder, "PEFT folders and GGUF LoRAs stand in it")->required();
  command->add_option("--base", flags->base, "Say which of them were trained on this model");
  command->callback(Runs([flags] { return List(*flags); }));
}

void AddMerge(CLI::App& app) {
  auto* command =
      app.add_subcommand("merge", "Take an adapter into its base's weights, and see whether it survives");
  auto flags = std::make_shared<MergeFlags>();
  command->add_option("MODEL", flags->base, "The base: GGUF file or Hugging Face folder")->required();
  command->add_option("ADAPTER", flags->adapter, "LoRA, DoRA, VeRA or IA3; PATH or PATH=SCALE")->required();
  command->add_option("-o,--output", flags->out, "The GGUF file to write")->required();
  command->add_option("--outtype", flags->outtype,
                      "Type, as thimble quantize has them (default: the base's)");
  command->add_option("-t,--threads", flags->threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
  command->callback(Runs([flags] { return Merge(*flags); }));
}

}  // namespace

void AddAdapter(CLI::App& app) {
  auto* command = app.add_subcommand("adapter", "List, inspect, merge and rebase adapters");
  command->require_subcommand(1);
  AddList(*command);
  AddInspect(*command);
  AddMerge(*command);
  AddRebase(*command);
}

}  // namespace thimble

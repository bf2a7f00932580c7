#include "eval/speed_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace thimble {
namespace {

double Deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  double mean = 0, squares = 0;
  for (double v : values) mean += v / static_cast<double>(values.size());
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

// The bound of a row's test: bytes per second when writing, multiply-adds per second when reading.
double Bound(const SpeedRow& row, const MachineSpeed& machine) {
  return row.result.n_gen > 0 ? machine.read() : machine.int8;
}

// Of the bound; 0 where that is not known or does not bind.
double Share(const SpeedRow& row, const MachineSpeed& machine) {
  const double bound = Bound(row, machine);
  if (bound == 0 || (row.result.n_prompt > 0 && row.compute != "int8")) return 0;
  const double per_token = row.result.n_gen > 0 ? row.bytes_per_token : row.multiply_adds_per_token;
  return per_token * Median(row.result.rates) / bound;
}

// Fields of a CSV line need quotes around commas and quotes.
std::string CsvField(const Json& value) {
  if (!value.is_string()) return DumpJson(value);
  std::string quoted = "\"";
  for (char c : value.get<std::string>()) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string MachineLines(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines) {
  std::string text;
  for (const auto& [threads, speed] : machines) {
    text += fmt::format("{} thread{}: {}\n", threads, threads == 1 ? "" : "s",
                        DescribeMachine(speed, rows.front().kernels));
  }
  return text;
}

}  // namespace

void AddSpeedRows(const std::string& path, const Model& model, const Context& ctx, KvTypes kv,
                  const std::vector<SpeedResult>& results, std::vector<SpeedRow>& rows) {
  for (const SpeedResult& result : results) {
    rows.push_back({.model = path,
                    .size = MeasureSize(model),
                    .packed = MeasurePacked(model),
                    .kernels = ctx.kernels.name,
                    .compute = Name(ctx.compute),
                    .kv = kv,
                    .threads = ctx.pool.n_threads(),
                    .result = result,
                    .bytes_per_token = result.n_gen > 0 ? BytesPerToken(model, result.n_gen, kv) : 0,
                    .multiply_adds_per_token = MultiplyAddsPerToken(model)});
  }
}

Json SpeedJson(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines) {
  Json list = Json::array();
  for (const SpeedRow& row : rows) {
    const MachineSpeed& machine = machines.at(row.threads);
    const auto [low, high] = std::minmax_element(row.result.rates.begin(), row.result.rates.end());
    list.push_back({{"program", "thimble"},
                    {"model_filename", row.model},
                    {"model_size", row.size.file_bytes},
                    {"model_n_params", row.size.n_parameters},
                    {"kernels", row.kernels},
                    {"compute", row.compute},
                    {"n_threads", row.threads},
                    {"type_k", Name(row.kv.k)},
                    {"type_v", Name(row.kv.v)},
                    {"test", row.result.Name()},
                    {"n_prompt", row.result.n_prompt},
                    {"n_gen", row.result.n_gen},
                    {"median_ts", Median(row.result.rates)},
                    {"min_ts", *low},
                    {"max_ts", *high},
                    {"stddev_ts", Deviation(row.result.rates)},
                    {"samples_ts", row.result.rates},
                    {"peak_rss_bytes", row.result.peak_rss_bytes},
                    {"packed_bytes", row.packed.packed_bytes},
                    {"released_bytes", row.packed.released_bytes},
                    {"bytes_per_token", row.bytes_per_token},
                    {"multiply_adds_per_token", row.multiply_adds_per_token},
                    {"share_of_bound", Share(row, machine)},
                    {"read_ordinary_bytes_per_second", machine.read_ordinary},
                    {"read_huge_bytes_per_second", machine.read_huge},
                    {"int8_multiply_adds_per_second", machine.int8}});
  }
  return list;
}

std::string SpeedCsv(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines) {
  std::string text;
  for (const Json& row : SpeedJson(rows, machines)) {
    std::vector<std::string> names, fields;
    for (const auto& [name, value] : row.items()) {
      if (value.is_array()) continue;
      names.push_back(name);
      fields.push_back(CsvField(value));
    }
    if (text.empty()) text = fmt::format("{}\n", fmt::join(names, ","));
    text += fmt::format("{}\n", fmt::join(fields, ","));
  }
  return text;
}

std::string SpeedMarkdown(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines) {
  std::string text =
      "| model | MB | M params | kernels | threads | test | tokens/s | from - to | packed MB | peak MB | of "
      "the bound |\n"
      "|---|---:|---:|---|---:|---|---:|---:|---:|---:|---|\n";
  for (const SpeedRow& row : rows) {
    const MachineSpeed& machine = machines.at(row.threads);
    const auto [low, high] = std::minmax_element(row.result.rates.begin(), row.result.rates.end());
    const double share = Share(row, machine);
    std::string bound;
    if (share > 0 && row.result.n_gen > 0) {
      bound = fmt::format("{:.0f} %: {:.1f} of {:.1f} GB/s, {:.1f} MB per token", 100 * share,
                          share * machine.read() / 1e9, machine.read() / 1e9, row.bytes_per_token / 1e6);
    } else if (share > 0) {
      bound = fmt::format("{:.0f} %: {:.0f} of {:.0f} G multiply-adds/s", 100 * share,
                          share * machine.int8 / 1e9, machine.int8 / 1e9);
    }
    text += fmt::format(
        "| {} | {:.0f} | {:.0f} | {}{} | {} | {} | {:.1f} | {:.1f} - {:.1f} | {:.1f} | {:.0f} | {} |\n",
        std::filesystem::path(row.model).filename().string(), static_cast<double>(row.size.file_bytes) / 1e6,
        static_cast<double>(row.size.n_parameters) / 1e6, row.kernels,
        row.compute == "int8" ? "" : " " + row.compute, row.threads, row.result.Name(),
        Median(row.result.rates), *low, *high, static_cast<double>(row.packed.packed_bytes) / 1e6,
        static_cast<double>(row.result.peak_rss_bytes) / 1e6, bound);
  }
  return text + "\n" + MachineLines(rows, machines);
}

}  // namespace thimble

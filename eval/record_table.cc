#include "eval/record_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>

namespace thimble {
namespace {

// A field of a field of ..., or null.
const Json& At(const Json& json, std::initializer_list<const char*> path) {
  static const Json nothing;
  const Json* at = &json;
  for (const char* key : path) {
    const auto found = at->find(key);
    if (!at->is_object() || found == at->end()) return nothing;
    at = &*found;
  }
  return *at;
}

std::string Text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : "";
}

// "" where it is no number.
std::string Number(const Json& value, fmt::format_string<double> format, double factor = 1) {
  return value.is_number() ? fmt::format(format, factor * value.get<double>()) : "";
}

std::string WithInterval(const Json& value, const Json& low, const Json& high, double factor = 1) {
  if (!value.is_number()) return "";
  return fmt::format("{} ({} to {})", Number(value, "{:.1f}", factor), Number(low, "{:.1f}", factor),
                     Number(high, "{:.1f}", factor));
}

std::string TextScoreOf(const Json& record, const char* name) {
  const Json& score = At(record, {"exact_match", name});
  return WithInterval(At(score, {"score"}), At(score, {"low"}), At(score, {"high"}));
}

std::string ExactMatchOf(const Json& record) {
  const Json& match = At(record, {"exact_match"});
  const Json &correct = At(match, {"correct"}), &total = At(match, {"total"});
  if (!correct.is_number() || !total.is_number() || total.get<double>() < 1) return "";
  return WithInterval(Json(correct.get<double>() / total.get<double>()), At(match, {"low"}),
                      At(match, {"high"}), 100);
}

std::string MeanAndInterval(const Json& record, const char* mean, const char* error,
                            fmt::format_string<double, double> format) {
  const Json &value = At(record, {mean}), &se = At(record, {error});
  constexpr double kNormal95 = 1.96;
  if (!value.is_number() || !se.is_number()) return "";
  return fmt::format(format, value.get<double>(), kNormal95 * se.get<double>());
}

std::string BaseOf(const Json& record) {
  const std::string base = Text(At(record, {"training", "base"}));
  return std::filesystem::path(base.empty() ? Text(At(record, {"model"})) : base).filename();
}

struct Column {
  const char* title;
  std::function<std::string(const Json&)> cell;
};

std::vector<Column> Columns() {
  const auto training = [](const char* key) {
    return [key](const Json& r) { return At(r, {"training", key}); };
  };
  return {
      {"name", [](const Json& r) { return Text(At(r, {"name"})); }},
      {"method", [=](const Json& r) { return Text(training("method")(r)); }},
      {"base", BaseOf},
      {"trained", [=](const Json& r) { return Number(training("n_parameters")(r), "{:.0f}"); }},
      {"saved, MB", [=](const Json& r) { return Number(training("saved_bytes")(r), "{:.2f}", 1e-6); }},
      {"steps", [=](const Json& r) { return Number(training("steps")(r), "{:.0f}"); }},
      {"tokens", [=](const Json& r) { return Number(training("tokens")(r), "{:.0f}"); }},
      {"minutes", [=](const Json& r) { return Number(training("seconds")(r), "{:.1f}", 1.0 / 60); }},
      {"peak, MB", [=](const Json& r) { return Number(training("peak_rss_bytes")(r), "{:.0f}", 1e-6); }},
      {"exact match, %", ExactMatchOf},
      {"macro-F1", [](const Json& r) { return TextScoreOf(r, "macro_f1"); }},
      {"BLEU", [](const Json& r) { return TextScoreOf(r, "bleu"); }},
      {"chrF", [](const Json& r) { return TextScoreOf(r, "chrf"); }},
      {"perplexity", [](const Json& r) { return MeanAndInterval(r, "ppl", "ppl_se", "{:.2f} +- {:.2f}"); }},
      {"KL divergence",
       [](const Json& r) { return MeanAndInterval(r, "kld_mean", "kld_se", "{:.4f} +- {:.4f}"); }},
  };
}

}  // namespace

std::string RecordTable(const std::vector<Json>& records) {
  std::vector<std::string> lines(records.size() + 2, "|");
  for (const Column& column : Columns()) {
    std::vector<std::string> cells;
    for (const Json& record : records) cells.push_back(column.cell(record));
    if (std::ranges::all_of(cells, [](const std::string& cell) { return cell.empty(); })) continue;
    lines[0] += fmt::format(" {} |", column.title);
    lines[1] += "---|";
    for (size_t i = 0; i < cells.size(); ++i) lines[i + 2] += fmt::format(" {} |", cells[i]);
  }
  return fmt::format("{}\n", fmt::join(lines, "\n"));
}

}  // namespace thimble

#include "eval/record.h"

#include <algorithm>

#include "eval/interval.h"

namespace thimble {
namespace {

constexpr size_t kWrongAnswers = 20;  // as examples, not a list of all

Json OrNull(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json OrNull(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

void AddPerplexity(const PerplexityResult& result, Json& json) {
  json["ppl"] = result.ppl;
  json["ppl_se"] = result.ppl_se;
  json["kld_mean"] = OrNull(result.kld_mean);
  json["kld_median"] = OrNull(result.kld_median);
  json["kld_p99"] = OrNull(result.kld_p99);
  json["top1_agreement"] = OrNull(result.top1_agreement);
  json["tokens_per_second"] = result.tokens_per_second;
  json["n_tokens"] = result.n_tokens;
  json["kld_se"] = OrNull(result.kld_se);
  json["reference_ppl"] = OrNull(result.reference_ppl);
}

Json GuessesJson(const std::vector<WorstExample::Guess>& guesses) {
  Json json = Json::array();
  for (const auto& [token, p] : guesses) json.push_back({{"token", token}, {"p", p}});
  return json;
}

// The worst of all texts.
Json WorstJson(const std::vector<TextResult>& texts) {
  std::vector<std::pair<const WorstExample*, const TextResult*>> all;
  size_t n = 0;
  for (const TextResult& text : texts) {
    for (const WorstExample& example : text.result.worst) all.push_back({&example, &text});
    n = std::max(n, text.result.worst.size());
  }
  std::stable_sort(all.begin(), all.end(), [](auto a, auto b) { return a.first->kld > b.first->kld; });
  all.resize(n);
  Json json = Json::array();
  for (const auto& [example, text] : all) {
    json.push_back({{"kld", example->kld},
                    {"text", text->name},
                    {"window", example->window},
                    {"position", example->position},
                    {"context", example->context},
                    {"next", example->next},
                    {"reference", GuessesJson(example->reference)},
                    {"model", GuessesJson(example->model)}});
  }
  return json;
}

Json ExactMatchJson(const ExactMatchResult& result, const std::string& data) {
  const int64_t total = static_cast<int64_t>(result.answers.size());
  const Interval interval = WilsonInterval(result.n_correct, total);
  Json wrong = Json::array();
  for (const Answer& answer : result.answers) {
    if (answer.correct || wrong.size() == kWrongAnswers) continue;
    wrong.push_back({{"expected", answer.expected}, {"got", answer.got}});
  }
  const auto score = [](const TextScore& s) {
    return Json{{"score", s.value}, {"low", s.interval.low}, {"high", s.interval.high}};
  };
  return {{"correct", result.n_correct},
          {"total", total},
          {"low", interval.low},
          {"high", interval.high},
          {"bleu", score(result.scores.bleu)},
          {"chrf", score(result.scores.chrf)},
          {"macro_f1", score(result.scores.macro_f1)},
          {"seconds", result.seconds},
          {"data", data},
          {"wrong", std::move(wrong)}};
}

}  // namespace

std::optional<PerplexityResult> EvalRecord::perplexity() const {
  if (texts.empty()) return std::nullopt;
  std::vector<const PerplexityResult*> results;
  for (const TextResult& text : texts) results.push_back(&text.result);
  return Pool(results);
}

Json ToJson(const EvalInput& input) {
  return {{"path", input.path}, {"bytes", input.bytes}, {"sha256", input.sha256}};
}

Json ToJson(const TaskResult& task) {
  const int64_t total = static_cast<int64_t>(task.result.items.size());
  const auto share = [&](int64_t n) { return static_cast<double>(n) / static_cast<double>(total); };
  const auto interval = [&](int64_t n) {
    const Interval wilson = WilsonInterval(n, total);
    return Json{wilson.low, wilson.high};
  };
  const int64_t correct = task.result.n_correct(), by_bytes = task.result.n_correct_by_bytes();
  Json items = Json::array();
  for (const ChoiceScore& item : task.result.items) {
    items.push_back({{"gold", item.gold},
                     {"acc", item.chosen},
                     {"acc_norm", item.chosen_by_bytes},
                     {"log_likelihoods", item.log_likelihoods}});
  }
  return {{"name", task.name},
          {"task", task.path},
          {"total", total},
          {"acc", share(correct)},
          {"acc_interval", interval(correct)},
          {"acc_norm", share(by_bytes)},
          {"acc_norm_interval", interval(by_bytes)},
          {"seconds", task.result.seconds},
          {"items", std::move(items)}};
}

Json ToJson(const EvalRecord& record) {
  Json json = {{"kind", "eval"}, {"name", record.name}, {"model", record.model}};
  for (const char* key : {"ppl", "ppl_se", "kld_mean", "kld_median", "kld_p99", "top1_agreement"}) {
    json[key] = nullptr;
  }
  json["bytes"] = record.size.file_bytes;
  json["bits_per_weight"] = record.size.bits_per_weight();
  for (const char* key : {"tokens_per_second", "peak_rss_bytes", "n_tokens"}) json[key] = nullptr;
  if (const auto all = record.perplexity()) {
    AddPerplexity(*all, json);
    json["peak_rss_bytes"] = record.peak_rss_bytes;
  }
  json["weight_bytes"] = record.size.weight_bytes;
  json["n_parameters"] = record.size.n_parameters;
  json["text"] = record.texts.empty() ? Json() : Json(record.texts[0].path);
  json["texts"] = Json::array();
  for (const TextResult& text : record.texts) {
    Json row = {{"name", text.name}, {"text", text.path}};
    AddPerplexity(text.result, row);
    json["texts"].push_back(std::move(row));
  }
  json["worst"] = WorstJson(record.texts);
  json["ctx_size"] = record.n_ctx;
  json["reference"] = OrNull(record.reference);
  if (record.reference_bytes) json["reference_bytes"] = *record.reference_bytes;
  json["adapters"] = record.adapters;
  json["compute"] = record.compute;
  json["exact_match"] = record.exact_match ? ExactMatchJson(*record.exact_match, record.data) : Json();
  json["tasks"] = Json::array();
  for (const TaskResult& task : record.tasks) json["tasks"].push_back(ToJson(task));
  json["layers"] = Json::array();
  for (const LayerError& e : record.layers) {
    json["layers"].push_back(
        {{"layer", e.layer}, {"module", e.module}, {"type", e.type}, {"relative_error", e.relative_error}});
  }
  json["inputs"] = Json::array();
  for (const EvalInput& input : record.inputs) {
    json["inputs"].push_back(ToJson(input));
  }
  json["training"] = record.training;
  json["command"] = record.command;
  json["thimble_version"] = record.version;
  return json;
}

}  // namespace thimble

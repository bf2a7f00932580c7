#include "eval/multiple_choice.h"

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/json.h"
#include "engine/cached_model.h"
#include "eval/prediction.h"

namespace thimble {
namespace {

constexpr size_t kLongestChoice = 512;  // tokens: what CachedModel gives logits for at once

// The first of these keys that the line has.
Result<const Json*> Field(const Json& line, std::initializer_list<const char*> keys,
                          const std::string& where) {
  for (const char* key : keys) {
    if (const auto it = line.find(key); it != line.end()) return &*it;
  }
  return MakeError(ErrorCode::kInvalidArgument, "{}: needs one of \"{}\"", where, fmt::join(keys, "\", \""));
}

// An index, or -1.
int64_t ParseGold(const Json& gold) {
  if (gold.is_number_integer()) return gold.get<int64_t>();
  if (!gold.is_string()) return -1;
  const auto& text = gold.get_ref<const std::string&>();
  if (text.size() == 1 && text[0] >= 'A' && text[0] <= 'Z') return text[0] - 'A';
  int64_t index = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  return error == std::errc() && end == text.data() + text.size() ? index : -1;
}

Result<ChoiceItem> ParseItem(const Json& line, const std::string& where) {
  if (!line.is_object()) return MakeError(ErrorCode::kInvalidArgument, "{}: not a JSON object", where);
  ChoiceItem item;
  ASSIGN_OR_RETURN(const Json* query, Field(line, {"query", "question", "ctx"}, where));
  ASSIGN_OR_RETURN(const Json* choices, Field(line, {"choices", "endings"}, where));
  ASSIGN_OR_RETURN(const Json* gold, Field(line, {"gold", "answer", "label"}, where));
  if (!query->is_string())
    return MakeError(ErrorCode::kInvalidArgument, "{}: the query is not a string", where);
  item.query = query->get<std::string>();
  if (!choices->is_array() || choices->size() < 2) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: the choices are not a list of two or more", where);
  }
  for (const Json& choice : *choices) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: a choice is empty or not a string", where);
    }
    item.choices.push_back(choice.get<std::string>());
  }
  item.gold = ParseGold(*gold);
  if (item.gold < 0 || item.gold >= static_cast<int64_t>(item.choices.size())) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: the answer {} is neither an index from 0 to {} nor a letter from A", where,
                     DumpJson(*gold), item.choices.size() - 1);
  }
  return item;
}

// A query with one of its choices.
struct Sequence {
  std::vector<TokenId> tokens;
  size_t n_choice = 0;  // tokens at the end that are scored
};

Sequence Encode(const Tokenizer& tokenizer, const std::string& query, const std::string& choice) {
  const size_t last = query.find_last_not_of(" \t\r\n\v\f");
  const std::string context = last == std::string::npos ? "" : query.substr(0, last + 1);
  const auto encode = [&](const std::string& text) {
    std::vector<TokenId> ids = tokenizer.Encode(text, true, false);
    if (tokenizer.spec().add_eos && !ids.empty()) ids.pop_back();
    return ids;
  };
  size_t n_context = encode(context).size();
  Sequence sequence{.tokens = encode(context + query.substr(context.size()) + " " + choice)};
  if (n_context == 0) {
    const TokenizerSpec& spec = tokenizer.spec();
    sequence.tokens.insert(sequence.tokens.begin(), spec.bos ? *spec.bos : spec.eos.value_or(0));
    n_context = 1;
  }
  // The choice may have merged with all of the context's end.
  n_context = std::min(n_context, sequence.tokens.size() - 1);
  sequence.n_choice = sequence.tokens.size() - n_context;
  return sequence;
}

double LogLikelihood(CachedModel& model, const Sequence& sequence) {
  const std::span<const TokenId> tokens = sequence.tokens;
  const int64_t n = static_cast<int64_t>(sequence.n_choice);
  const Tensor logits = model.Read(tokens.first(tokens.size() - 1), n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const TokenId target = tokens[tokens.size() - sequence.n_choice + static_cast<size_t>(i)];
    sum -= ScoreAlone({logits.row(i), static_cast<size_t>(logits.cols())}, target).nll;
  }
  return sum;
}

int64_t Highest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

Result<std::vector<ChoiceItem>> ParseChoices(std::string_view text, const std::string& source) {
  std::vector<ChoiceItem> items;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", source, number);
    ASSIGN_OR_RETURN(const Json json, ParseJson(line, where));
    ASSIGN_OR_RETURN(ChoiceItem item, ParseItem(json, where));
    items.push_back(std::move(item));
  }
  if (items.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}: holds no items", source);
  return items;
}

int64_t ChoiceResult::n_correct() const {
  return std::count_if(items.begin(), items.end(), [](const ChoiceScore& item) { return item.correct(); });
}

int64_t ChoiceResult::n_correct_by_bytes() const {
  return std::count_if(items.begin(), items.end(),
                       [](const ChoiceScore& item) { return item.correct_by_bytes(); });
}

Result<ChoiceResult> MeasureChoices(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                    const std::vector<ChoiceItem>& items,
                                    const std::vector<AppliedAdapter>& adapters, KvTypes kv,
                                    const ProgressFn& progress) {
  const double begin = Seconds();
  std::vector<std::vector<Sequence>> sequences(items.size());
  size_t longest = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    for (const std::string& choice : items[i].choices) {
      sequences[i].push_back(Encode(tokenizer, items[i].query, choice));
      const Sequence& sequence = sequences[i].back();
      longest = std::max(longest, sequence.tokens.size());
      if (static_cast<int64_t>(sequence.tokens.size()) > model.config().context_length ||
          sequence.n_choice > kLongestChoice) {
        return MakeError(ErrorCode::kInvalidArgument,
                         "item {}: {} tokens, {} of them a choice's; the model takes {}, a choice at most {}",
                         i + 1, sequence.tokens.size(), sequence.n_choice, model.config().context_length,
                         kLongestChoice);
      }
    }
  }
  CachedModel cached(ctx, model, static_cast<int64_t>(longest), kv);  // a query is read once
  cached.SetAdapters(adapters);
  std::vector<double> log_likelihoods;  // of all choices; 0 for other ranks' until they are summed
  for (size_t i = 0; i < items.size(); ++i) {
    const bool mine = ctx.ranks.Takes(static_cast<int64_t>(i));
    for (const Sequence& sequence : sequences[i]) {
      log_likelihoods.push_back(mine ? LogLikelihood(cached, sequence) : 0);
    }
    const bool go_on = !progress || progress({.stage = "multiple choice",
                                              .done = static_cast<double>(i + 1),
                                              .total = static_cast<double>(items.size()),
                                              .unit = "items",
                                              .note = {}});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  ctx.ranks.Sum(log_likelihoods);
  ChoiceResult result;
  auto next = log_likelihoods.cbegin();
  for (const ChoiceItem& item : items) {
    ChoiceScore score{.gold = item.gold, .log_likelihoods = {next, next + std::ssize(item.choices)}};
    next += std::ssize(item.choices);
    std::vector<double> by_bytes;
    for (size_t j = 0; j < item.choices.size(); ++j) {
      by_bytes.push_back(score.log_likelihoods[j] / static_cast<double>(item.choices[j].size()));
    }
    score.chosen = Highest(score.log_likelihoods);
    score.chosen_by_bytes = Highest(by_bytes);
    result.items.push_back(std::move(score));
  }
  result.seconds = Seconds() - begin;
  return result;
}

}  // namespace thimble

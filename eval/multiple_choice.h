// Multiple choice, as lm-evaluation-harness scores it: which of several endings does the model expect most?
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "eval/interval.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace thimble {

struct ChoiceItem {
  std::string query;
  std::vector<std::string> choices;  // at least two, none empty
  int64_t gold = 0;                  // index of the right one
};

// JSONL; a line has "query", "question" or "ctx", then "choices" or "endings" (a list of strings), then
// "gold", "answer" or "label": an index from 0, as a number or a string, or a letter from A. Further fields
// and blank lines are skipped. Errors begin with `source` and name the line.
Result<std::vector<ChoiceItem>> ParseChoices(std::string_view text, const std::string& source);

struct ChoiceScore {
  int64_t gold = 0;
  std::vector<double> log_likelihoods;  // of " " + each choice after the query, nats
  int64_t chosen = 0,
          chosen_by_bytes = 0;  // the highest, and the highest per byte of the choice (without the space)
  bool correct() const { return chosen == gold; }
  bool correct_by_bytes() const { return chosen_by_bytes == gold; }
};

struct ChoiceResult {
  std::vector<ChoiceScore> items;
  double seconds = 0;
  int64_t n_correct() const;           // "acc"
  int64_t n_correct_by_bytes() const;  // "acc_norm"
};

// White space at the end of a query belongs to the choice, and query and choice are tokenized together, as
// the harness does; BOS comes first where the tokenizer adds it, and where the query is empty. Ranks share
// the items.
Result<ChoiceResult> MeasureChoices(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                    const std::vector<ChoiceItem>& items,
                                    const std::vector<AppliedAdapter>& adapters, KvTypes kv,
                                    const ProgressFn& progress);

}  // namespace thimble

// Models side by side, as thimble compare shows them.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "eval/interval.h"
#include "eval/record.h"
#include "eval/saved_reference.h"

namespace thimble {

struct ComparedModel {
  std::string name;
  EvalInput file;
  ModelSize size;
  std::vector<TextResult> texts;
  std::vector<TaskResult> tasks;
};

struct Comparison {
  std::string command, version, compute;
  int64_t n_ctx = 0;
  std::optional<ReferenceHeader> reference;  // set if there are texts
  std::vector<EvalInput> texts, tasks;       // as they were given
  std::vector<ComparedModel>
      models;  // with the same texts and tasks; the first is what the others are held against
};

// A model and a text. Intervals are of 95 %, over the text's windows (WindowDivergences); differences are
// paired.
struct ComparisonRow {
  const ComparedModel* model;
  const TextResult* text;
  double ppl_ratio = 0;  // to the reference's
  Mean kld;
  Mean less_first;  // kld less that of the first model
  double right_to_wrong = 0,
         wrong_to_right = 0;  // shares of positions: the reference's guess, then the model's
};
std::vector<ComparisonRow> CompareTexts(const Comparison& comparison);

// A model and a task.
struct TaskRow {
  const ComparedModel* model;
  const TaskResult* task;
  Mean less_first;  // accuracy less that of the first model, item by item
  double right_to_wrong = 0,
         wrong_to_right = 0;  // shares of items: the first model's answer, then this one's
};
std::vector<TaskRow> CompareTasks(const Comparison& comparison);

Json ToJson(const Comparison& comparison);
std::string ToMarkdown(const Comparison& comparison);

}  // namespace thimble

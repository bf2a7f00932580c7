// The report: one HTML page, with nothing to load, that shows what evaluations and training runs measured.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace thimble {

// The lines of a training run's log.jsonl (see StepLogFn in train/trainer.h).
struct TuneLog {
  std::string name;
  std::vector<Json> entries;
};

struct ReportInput {
  std::vector<Json> evals;  // as ToJson(EvalRecord) makes them
  std::vector<TuneLog> tunes;
  std::string title;
};

// Whether a report can be drawn from `eval`: an object with the size in "bytes" and at least one of "ppl" and
// "exact_match". Errors begin with `source` and name the field.
Status CheckEval(const Json& eval, const std::string& source);
// One JSON object per line with "step" and one of "loss" and "eval_loss"; blank lines are skipped. Errors
// begin with `source` and name the line.
Result<TuneLog> ParseTuneLog(std::string_view text, const std::string& name, const std::string& source);

// The whole page. Fails if there is nothing to show or an evaluation does not pass CheckEval.
Result<std::string> RenderReport(const ReportInput& input);

}  // namespace thimble

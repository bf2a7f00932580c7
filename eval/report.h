// The report: one HTML page, with nothing to load, that shows what eval, fit, compare and training runs
// measured. The page itself is built from web/.
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
  std::vector<Json> records;  // as thimble eval, fit and compare write them with --json
  std::vector<TuneLog> tunes;
  std::string title;
};

// Whether a report can be drawn from `record`: an object of "kind" eval (also where there is none), fit or
// compare, with the fields that the page cannot do without. Errors begin with `source` and name the field.
Status CheckRecord(const Json& record, const std::string& source);
// Of its part that says how the model was trained.
Status CheckTraining(const Json& training, const std::string& source);
// One JSON object per line with "step" and one of "loss" and "eval_loss"; blank lines are skipped. Errors
// begin with `source` and name the line.
Result<TuneLog> ParseTuneLog(std::string_view text, const std::string& name, const std::string& source);

// The whole page. Fails if there is nothing to show or a record does not pass CheckRecord.
Result<std::string> RenderReport(const ReportInput& input);

}  // namespace thimble

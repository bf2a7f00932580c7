// Exact match: the share of prompts that a model answers to the letter; and how near the other answers are.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "base/ranks.h"
#include "base/result.h"
#include "engine/session.h"
#include "eval/text_scores.h"
#include "train/dataset.h"

namespace thimble {

struct Answer {
  std::string expected, got;
  bool correct = false;
};

struct ExactMatchResult {
  std::vector<Answer> answers;
  int64_t n_correct = 0;
  TextScores scores;
  double seconds = 0;
  double exact_match() const { return static_cast<double>(n_correct) / static_cast<double>(answers.size()); }
};

// Greedy answers of at most `max_tokens`, compared after trimming white space at both ends. Ranks share the
// prompts.
Result<ExactMatchResult> MeasureExactMatch(Ranks& ranks, Session& session,
                                           const std::vector<PromptAndAnswer>& prompts, int64_t max_tokens,
                                           const ProgressFn& progress);

}  // namespace thimble

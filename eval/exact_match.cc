#include "eval/exact_match.h"

#include <chrono>

namespace thimble {
namespace {

std::string Trim(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

Result<ExactMatchResult> MeasureExactMatch(Session& session, const std::vector<PromptAndAnswer>& prompts,
                                           int64_t max_tokens, const ProgressFn& progress) {
  const auto begin = std::chrono::steady_clock::now();
  ExactMatchResult result;
  std::vector<TextPair> pairs;
  GenerateOptions options{.max_tokens = max_tokens};
  options.sampling.temperature = 0;
  for (const PromptAndAnswer& prompt : prompts) {
    ASSIGN_OR_RETURN(const Generation generation, session.Generate(prompt.prompt, options));
    Answer answer{.expected = Trim(prompt.answer), .got = Trim(generation.text)};
    answer.correct = answer.expected == answer.got;
    result.n_correct += answer.correct;
    pairs.push_back({answer.got, answer.expected});
    result.answers.push_back(std::move(answer));
    const bool go_on = !progress || progress({.stage = "exact match",
                                              .done = static_cast<double>(result.answers.size()),
                                              .total = static_cast<double>(prompts.size()),
                                              .unit = "answers",
                                              .note = fmt::format("{} right", result.n_correct)});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!pairs.empty()) result.scores = ScoreTexts(pairs);
  return result;
}

}  // namespace thimble

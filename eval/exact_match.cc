#include "eval/exact_match.h"

#include <chrono>

namespace thimble {
namespace {

std::string Trim(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(" \t\r\n") - begin + 1);
}

// Each has those that it takes; afterwards all have all.
void ShareTexts(Ranks& ranks, std::vector<std::string>& texts) {
  std::string mine;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (ranks.Takes(static_cast<int64_t>(i))) mine += fmt::format("{} {}", texts[i].size(), texts[i]);
  }
  const std::vector<std::string> all = ranks.Gather(mine);
  std::vector<size_t> at(all.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const size_t rank = i % all.size();
    size_t digits = 0;
    const size_t size = std::stoul(all[rank].substr(at[rank], 20), &digits);
    texts[i] = all[rank].substr(at[rank] + digits + 1, size);
    at[rank] += digits + 1 + size;
  }
}

}  // namespace

Result<ExactMatchResult> MeasureExactMatch(Ranks& ranks, Session& session,
                                           const std::vector<PromptAndAnswer>& prompts, int64_t max_tokens,
                                           const ProgressFn& progress) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::string> answers(prompts.size());
  GenerateOptions options{.max_tokens = max_tokens};
  options.sampling.temperature = 0;
  int64_t n_right = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!ranks.Takes(static_cast<int64_t>(i))) continue;
    ASSIGN_OR_RETURN(const Generation generation, session.Generate(prompts[i].prompt, options));
    answers[i] = Trim(generation.text);
    n_right += answers[i] == Trim(prompts[i].answer);
    const bool go_on = !progress || progress({.stage = "exact match",
                                              .done = static_cast<double>(i + 1),
                                              .total = static_cast<double>(prompts.size()),
                                              .unit = "answers",
                                              .note = fmt::format("{} right", n_right)});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  ShareTexts(ranks, answers);
  ExactMatchResult result;
  std::vector<TextPair> pairs;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Answer answer{.expected = Trim(prompts[i].answer), .got = std::move(answers[i])};
    answer.correct = answer.expected == answer.got;
    result.n_correct += answer.correct;
    pairs.push_back({answer.got, answer.expected});
    result.answers.push_back(std::move(answer));
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!pairs.empty()) result.scores = ScoreTexts(pairs);
  return result;
}

}  // namespace thimble

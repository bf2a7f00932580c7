#include "engine/session.h"

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace thimble {
namespace {

constexpr int64_t kDefaultContext = 4096;

// Holds back text that may turn out to be the beginning of a stop string.
class StopFilter {
 public:
  explicit StopFilter(const std::vector<std::string>& stop) : stop_(stop) {}

  // Text that is safe to show now; sets stopped() if a stop string has come.
  std::string Push(const std::string& text) {
    pending_ += text;
    size_t found = std::string::npos;
    for (const std::string& s : stop_) {
      if (!s.empty()) found = std::min(found, pending_.find(s));
    }
    if (found != std::string::npos) {
      stopped_ = true;
      pending_.resize(found);
      return Flush();
    }
    size_t hold = 0;
    for (const std::string& s : stop_) {
      for (size_t n = std::min(s.size(), pending_.size()); n > hold; --n) {
        if (pending_.ends_with(std::string_view(s).substr(0, n))) hold = n;
      }
    }
    std::string safe = pending_.substr(0, pending_.size() - hold);
    pending_.erase(0, safe.size());
    return safe;
  }
  std::string Flush() { return std::exchange(pending_, {}); }
  bool stopped() const { return stopped_; }

 private:
  const std::vector<std::string>& stop_;
  std::string pending_;
  bool stopped_ = false;
};

// What was guessed and read ahead. Without a drafter the guess is always empty.
class Lookahead {
 public:
  Lookahead(const DraftOptions& options, int64_t vocab_size)
      : options_(options), vocab_size_(vocab_size), limit_(std::max(kCautious, options.min)) {}

  // The row of the logits that the next token is drawn from.
  int64_t row() const { return n_true_; }
  // Whether `id`, the token that was drawn, is the one that was guessed: then the model has read it.
  bool Confirms(TokenId id) {
    const bool guessed = n_true_ < static_cast<int64_t>(draft_.size()) && draft_[n_true_] == id;
    n_true_ += guessed;
    return guessed;
  }
  // A new guess, of at most `most` tokens.
  const std::vector<TokenId>& Guess(std::span<const TokenId> history, int64_t most, const Sampler& sampler) {
    if (!draft_.empty()) {
      const bool all_true = n_true_ == static_cast<int64_t>(draft_.size());
      limit_ = all_true ? DraftOptions::kMost : std::max(kCautious, options_.min);
    }
    n_true_ = 0;
    draft_.clear();
    most = std::min({most, options_.max, limit_});
    if (options_.drafter == nullptr || most <= 0) return draft_;
    draft_ = options_.drafter->Draft(history, most, sampler);
    const auto unknown = [&](TokenId id) { return id >= vocab_size_; };
    draft_.erase(std::find_if(draft_.begin(), draft_.end(), unknown), draft_.end());
    if (static_cast<int64_t>(draft_.size()) < options_.min) draft_.clear();
    return draft_;
  }

 private:
  static constexpr int64_t kCautious = 3;  // until a guess has come true, and after one that has not

  const DraftOptions options_;
  const int64_t vocab_size_;
  int64_t limit_;
  std::vector<TokenId> draft_;
  int64_t n_true_ = 0;
};

}  // namespace

Session::Session(const Context& ctx, const Model& model, const Tokenizer& tokenizer, int64_t n_ctx,
                 KvTypes kv)
    : tokenizer_(tokenizer),
      model_(ctx, model, n_ctx > 0 ? n_ctx : std::min(model.config().context_length, kDefaultContext), kv) {}

Status Session::CheckPrompt(const std::vector<TokenId>& prompt) const {
  if (prompt.empty()) return MakeError(ErrorCode::kInvalidArgument, "the prompt is empty");
  for (TokenId id : prompt) {
    if (id < 0 || id >= model_.config().vocab_size) {
      return MakeError(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
                       model_.config().vocab_size);
    }
  }
  if (static_cast<int64_t>(prompt.size()) >= n_ctx()) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "the prompt has {} tokens, but the context holds {}; nothing is dropped silently: shorten it or "
        "raise --ctx-size",
        prompt.size(), n_ctx());
  }
  return {};
}

Result<Generation> Session::Generate(const std::vector<TokenId>& prompt, const GenerateOptions& options,
                                     const TextFn& on_text) {
  RETURN_IF_ERROR(CheckPrompt(prompt));
  std::vector<TokenId> history = prompt;
  const int64_t n_prompt = static_cast<int64_t>(prompt.size());
  // The last prompt token is always run again: its logits are needed.
  Generation out{.n_prompt = n_prompt, .n_cached = std::min(model_.Cached(prompt), n_prompt - 1)};
  const double begin = Seconds();
  Tensor logits = model_.Read(history);
  out.prompt_seconds = Seconds() - begin;

  Sampler sampler(options.sampling);
  Lookahead lookahead(options.draft, model_.config().vocab_size);
  StreamingDetokenizer detokenizer(tokenizer_);
  StopFilter filter(options.stop);
  const auto emit = [&](const std::string& text) {
    out.text += text;
    return text.empty() || !on_text || on_text(text);
  };
  const int64_t max_tokens = options.max_tokens >= 0 ? options.max_tokens : INT64_MAX;
  const auto wanted = [&] { return max_tokens - static_cast<int64_t>(out.tokens.size()); };
  const auto room = [&] { return n_ctx() - static_cast<int64_t>(history.size()); };
  const double decode_begin = Seconds();
  for (;;) {
    if (wanted() == 0) {
      out.reason = FinishReason::kLength;
      break;
    }
    const TokenId id =
        sampler.Sample({logits.row(lookahead.row()), static_cast<size_t>(logits.cols())}, history);
    if (!options.ignore_eos && tokenizer_.IsEndOfGeneration(id)) break;
    out.tokens.push_back(id);
    const bool go_on = emit(filter.Push(detokenizer.Push(id)));
    if (filter.stopped()) break;
    if (!go_on) {
      out.reason = FinishReason::kCancelled;
      break;
    }
    if (room() == 0) {
      out.reason = FinishReason::kContextFull;
      break;
    }
    if (wanted() == 0) continue;
    history.push_back(id);
    if (lookahead.Confirms(id)) {
      ++out.n_accepted;
      continue;
    }
    const auto& draft = lookahead.Guess(history, std::min(room(), wanted() - 1), sampler);
    out.n_drafted += static_cast<int64_t>(draft.size());
    history.insert(history.end(), draft.begin(), draft.end());
    logits = model_.Read(history, 1 + static_cast<int64_t>(draft.size()));
    history.resize(history.size() - draft.size());
  }
  model_.Truncate(static_cast<int64_t>(history.size()));  // what was guessed in vain
  if (!filter.stopped()) {
    emit(filter.Push(detokenizer.Flush()));
    if (filter.stopped()) out.reason = FinishReason::kStop;
    emit(filter.Flush());
  }
  out.decode_seconds = Seconds() - decode_begin;
  return out;
}

}  // namespace thimble

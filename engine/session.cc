#include "engine/session.h"
#include "base/clock.h"

#include <algorithm>
#include <cstring>

namespace thimble {
namespace {

constexpr int64_t kPrefillChunk = 512;
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

}  // namespace

Session::Session(const Context& ctx, const Model& model, const Tokenizer& tokenizer, int64_t n_ctx,
                 KvTypes kv)
    : ctx_(ctx),
      model_(model),
      tokenizer_(tokenizer),
      cache_(model.config(), n_ctx > 0 ? n_ctx : std::min(model.config().context_length, kDefaultContext),
             kv) {}

void Session::SetAdapters(std::vector<AppliedAdapter> adapters) {
  std::erase_if(adapters, [](const AppliedAdapter& a) { return a.scale == 0; });
  adapters_ = std::move(adapters);
  history_.clear();
  cache_.Truncate(0);
}

Tensor Session::Feed(std::span<const TokenId> tokens) {
  Tensor hidden;
  for (size_t begin = 0; begin < tokens.size(); begin += kPrefillChunk) {
    const auto chunk = tokens.subspan(begin, std::min<size_t>(kPrefillChunk, tokens.size() - begin));
    hidden = ForwardHidden(ctx_, model_, {.tokens = chunk, .cache = &cache_, .adapters = adapters_});
    history_.insert(history_.end(), chunk.begin(), chunk.end());
  }
  Tensor last = Tensor::Empty(1, hidden.cols());
  std::memcpy(last.data(), hidden.row(hidden.rows() - 1), static_cast<size_t>(hidden.cols()) * sizeof(float));
  return Logits(ctx_, model_, last);
}

Result<Generation> Session::Generate(const std::vector<TokenId>& prompt, const GenerateOptions& options,
                                     const TextFn& on_text) {
  if (prompt.empty()) return MakeError(ErrorCode::kInvalidArgument, "the prompt is empty");
  for (TokenId id : prompt) {
    if (id < 0 || id >= model_.config().vocab_size) {
      return MakeError(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
                       model_.config().vocab_size);
    }
  }
  const int64_t n_prompt = static_cast<int64_t>(prompt.size());
  if (n_prompt >= n_ctx()) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "the prompt has {} tokens, but the context holds {}; nothing is dropped silently: shorten it or "
        "raise --ctx-size",
        n_prompt, n_ctx());
  }
  // The last prompt token is always run again: its logits are needed.
  const auto [mismatch, unused] =
      std::mismatch(history_.begin(), history_.end(), prompt.begin(), prompt.end() - 1);
  history_.erase(mismatch, history_.end());
  cache_.Truncate(static_cast<int64_t>(history_.size()));

  Generation out{.n_prompt = n_prompt, .n_cached = static_cast<int64_t>(history_.size())};
  const double begin = Seconds();
  Tensor logits = Feed(std::span(prompt).subspan(history_.size()));
  out.prompt_seconds = Seconds() - begin;

  Sampler sampler(options.sampling);
  StreamingDetokenizer detokenizer(tokenizer_);
  StopFilter filter(options.stop);
  const auto emit = [&](const std::string& text) {
    out.text += text;
    return text.empty() || !on_text || on_text(text);
  };
  const double decode_begin = Seconds();
  for (;;) {
    if (options.max_tokens >= 0 && static_cast<int64_t>(out.tokens.size()) >= options.max_tokens) {
      out.reason = FinishReason::kLength;
      break;
    }
    const TokenId id = sampler.Sample({logits.data(), static_cast<size_t>(logits.cols())}, history_);
    if (!options.ignore_eos && tokenizer_.IsEndOfGeneration(id)) break;
    out.tokens.push_back(id);
    const bool go_on = emit(filter.Push(detokenizer.Push(id)));
    if (filter.stopped()) break;
    if (!go_on) {
      out.reason = FinishReason::kCancelled;
      break;
    }
    if (static_cast<int64_t>(history_.size()) >= n_ctx()) {
      out.reason = FinishReason::kContextFull;
      break;
    }
    if (options.max_tokens >= 0 && static_cast<int64_t>(out.tokens.size()) >= options.max_tokens) continue;
    logits = Feed({&id, 1});
  }
  if (!filter.stopped()) {
    emit(filter.Push(detokenizer.Flush()));
    if (!filter.stopped()) emit(filter.Flush());
  }
  out.decode_seconds = Seconds() - decode_begin;
  return out;
}

}  // namespace thimble

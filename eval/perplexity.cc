#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "model/adapter.h"
#include "text/utf8.h"

namespace thimble {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // logits of a 262,144-token vocabulary for 64 rows are 67 MB
constexpr size_t kWorstExamples = 10, kContextTokens = 40, kGuesses = 3;

Tensor Rows(const Tensor& x, int64_t begin, int64_t n) {
  Tensor out = Tensor::Empty(n, x.cols());
  std::memcpy(out.data(), x.row(begin), static_cast<size_t>(out.size()) * sizeof(float));
  return out;
}

// A token is often part of a character: "<0xEB>" for bytes that are no UTF-8.
std::string Shown(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const size_t valid = ValidUtf8Length(bytes);
    out += bytes.substr(0, valid);
    if (valid == bytes.size()) break;
    out += fmt::format("<0x{:02X}>", static_cast<uint8_t>(bytes[valid]));
    bytes.remove_prefix(valid + 1);
  }
  return out;
}

// The worst positions so far; texts are made of them at the end.
class Worst {
 public:
  bool Wants(double kld) const { return positions_.size() < kWorstExamples || kld > positions_.back().kld; }
  void Add(double kld, int64_t window, int64_t position, const std::vector<TokenLogProb>& reference,
           const std::vector<TokenLogProb>& model) {
    Position worst{.kld = kld, .window = window, .position = position};
    worst.n_guesses = std::min({reference.size(), model.size(), kGuesses});
    std::copy_n(reference.begin(), worst.n_guesses, worst.reference);
    std::copy_n(model.begin(), worst.n_guesses, worst.model);
    Insert(worst);
  }
  // Those of all ranks.
  void Join(Ranks& ranks) {
    const std::string_view mine(reinterpret_cast<const char*>(positions_.data()),
                                positions_.size() * sizeof(Position));
    const std::vector<std::string> all = ranks.Gather(mine);
    positions_.clear();
    for (const std::string& bytes : all) {
      for (size_t at = 0; at < bytes.size(); at += sizeof(Position)) {
        Position worst;
        std::memcpy(&worst, bytes.data() + at, sizeof(worst));
        if (Wants(worst.kld)) Insert(worst);
      }
    }
  }
  std::vector<WorstExample> Examples(const Tokenizer& tokenizer, const TokenWindows& windows) const {
    std::vector<WorstExample> examples;
    for (const Position& worst : positions_) {
      const std::span<const TokenId> tokens = windows[worst.window];
      const size_t end = static_cast<size_t>(worst.position + 1), n = std::min(end, kContextTokens);
      const auto guesses = [&](const TokenLogProb* guessed) {
        std::vector<WorstExample::Guess> out;
        for (size_t i = 0; i < worst.n_guesses; ++i) {
          out.push_back({Shown(tokenizer.TokenBytes(guessed[i].id, true)), std::exp(guessed[i].log_p)});
        }
        return out;
      };
      const auto context = tokens.subspan(end - n, n);
      examples.push_back({.kld = worst.kld,
                          .window = worst.window,
                          .position = worst.position,
                          .context = Shown(tokenizer.Decode({context.begin(), context.end()})),
                          .next = Shown(tokenizer.TokenBytes(tokens[end], true)),
                          .reference = guesses(worst.reference),
                          .model = guesses(worst.model)});
    }
    return examples;
  }

 private:
  struct Position {
    double kld;
    int64_t window, position;
    size_t n_guesses = 0;
    TokenLogProb reference[kGuesses] = {}, model[kGuesses] = {};
  };
  void Insert(const Position& worst) {
    const auto at = std::find_if(positions_.begin(), positions_.end(),
                                 [&](const Position& other) { return other.kld < worst.kld; });
    positions_.insert(at, worst);
    if (positions_.size() > kWorstExamples) positions_.pop_back();
  }
  std::vector<Position> positions_;  // the worst first
};

Tensor HiddenStates(const Context& ctx, const Model& model, std::span<const TokenId> tokens,
                    const PerplexityOptions& options) {
  std::optional<KvCache> cache;
  if (options.kv) {
    cache = StartSequence(ctx, model, options.adapters, static_cast<int64_t>(tokens.size()), *options.kv);
  }
  return ForwardHidden(ctx, model,
                       {.tokens = tokens, .cache = cache ? &*cache : nullptr, .adapters = options.adapters});
}

struct Runner {
  const Context& ctx;
  const Model& model;
  const PerplexityOptions& options;
  const TokenWindows& windows;
  Worst worst = {};
  std::vector<TokenScore> scores = {};
  double seconds = 0;

  Status Window(int64_t window) {
    const std::span tokens = windows[window];
    const double begin = Seconds();
    const Tensor hidden = HiddenStates(ctx, model, tokens, options);
    seconds += Seconds() - begin;
    Context exact = ctx;
    exact.compute = Compute::kF32;
    Tensor reference_hidden;
    if (options.reference) reference_hidden = ForwardHidden(exact, *options.reference, {.tokens = tokens});
    std::vector<Prediction> saved, kept;
    if (options.saved_reference) {
      ASSIGN_OR_RETURN(saved, options.saved_reference->Find(tokens));
    }
    if (options.save) kept.resize(static_cast<size_t>(windows.n_scored()));
    const int64_t first = windows.first_scored(), last = first + windows.n_scored();
    for (int64_t row = first; row < last; row += kRowsAtOnce) {
      const int64_t n = std::min(kRowsAtOnce, last - row);
      const double logits_begin = Seconds();
      const Tensor logits = Logits(ctx, model, Rows(hidden, row, n));
      seconds += Seconds() - logits_begin;
      Tensor other;
      if (options.reference) other = Logits(exact, *options.reference, Rows(reference_hidden, row, n));
      const auto row_of = [&](const Tensor& x, int64_t i) {
        return std::span<const float>(x.row(i), static_cast<size_t>(x.cols()));
      };
      const auto at = [&](int64_t i) { return static_cast<size_t>(row - first + i); };
      const size_t done = scores.size();
      scores.resize(done + static_cast<size_t>(n));
      const auto score = [&](int64_t i, TokenId target) {
        if (other) return ScoreAgainst(row_of(logits, i), row_of(other, i), target);
        if (!saved.empty()) return ScoreAgainst(row_of(logits, i), saved[at(i)], target);
        return ScoreAlone(row_of(logits, i), target);
      };
      ctx.pool.ParallelFor(n, 1, [&](int64_t begin_row, int64_t end_row, int) {
        for (int64_t i = begin_row; i < end_row; ++i) {
          const TokenId target = tokens[static_cast<size_t>(row + i + 1)];
          scores[done + static_cast<size_t>(i)] = score(i, target);
          if (options.save) kept[at(i)] = options.save->Keep(row_of(logits, i), target, tokens, row + i);
        }
      });
      if (!other && saved.empty()) continue;
      for (int64_t i = 0; i < n; ++i) {
        const double kld = scores[done + static_cast<size_t>(i)].kld;
        if (!worst.Wants(kld)) continue;
        worst.Add(kld, window, row + i, other ? MostLikely(row_of(other, i), kGuesses) : saved[at(i)].top,
                  MostLikely(row_of(logits, i), kGuesses));
      }
    }
    if (options.save) options.save->Add(tokens, kept);
    return {};
  }

  // What all ranks have measured, windows in their order; the time is the slowest one's.
  void Join() {
    Ranks& ranks = ctx.ranks;
    if (ranks.size() == 1) return;
    const std::vector<std::string> all =
        ranks.Gather({reinterpret_cast<const char*>(scores.data()), scores.size() * sizeof(TokenScore)});
    const size_t n_scored = static_cast<size_t>(windows.n_scored()), bytes = n_scored * sizeof(TokenScore);
    scores.resize(static_cast<size_t>(windows.size()) * n_scored);
    for (int64_t i = 0; i < windows.size(); ++i) {
      const std::string& theirs = all[static_cast<size_t>(i % ranks.size())];
      std::memcpy(&scores[static_cast<size_t>(i) * n_scored],
                  theirs.data() + static_cast<size_t>(i / ranks.size()) * bytes, bytes);
    }
    worst.Join(ranks);
    for (const std::string& text : ranks.Gather(fmt::format("{}", seconds))) {
      seconds = std::max(seconds, std::stod(text));
    }
  }
};

double Quantile(const std::vector<float>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const size_t low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

// Mean and its standard error.
template <typename F>
std::pair<double, double> MeanAndError(const std::vector<TokenScore>& scores, F value) {
  double sum = 0, sum2 = 0;
  for (const TokenScore& s : scores) sum += value(s);
  const double n = static_cast<double>(scores.size()), mean = sum / n;
  for (const TokenScore& s : scores) sum2 += (value(s) - mean) * (value(s) - mean);
  return {mean, std::sqrt(sum2 / n / std::max(1.0, n - 1))};
}

PerplexityResult Summarize(std::vector<TokenScore> scores, bool with_reference) {
  PerplexityResult result;
  result.n_tokens = static_cast<int64_t>(scores.size());
  const auto [nll, nll_se] = MeanAndError(scores, [](const TokenScore& s) { return s.nll; });
  result.ppl = std::exp(nll);
  result.ppl_se = nll_se * result.ppl;
  if (with_reference) {
    result.reference_ppl =
        std::exp(MeanAndError(scores, [](const TokenScore& s) { return s.reference_nll; }).first);
    std::tie(result.kld_mean, result.kld_se) =
        MeanAndError(scores, [](const TokenScore& s) { return s.kld; });
    std::vector<float> sorted;
    for (const TokenScore& s : scores) sorted.push_back(static_cast<float>(s.kld));
    std::sort(sorted.begin(), sorted.end());
    result.kld_median = Quantile(sorted, 0.5);
    result.kld_p99 = Quantile(sorted, 0.99);
    result.top1_agreement =
        MeanAndError(scores, [](const TokenScore& s) { return s.same_top ? 1.0 : 0.0; }).first;
  }
  result.scores = std::move(scores);
  return result;
}

// |W - R| / |R| of one layer's matrix. A GGUF and a Hugging Face folder may order the rows of Q and K
// differently.
double RelativeError(const Context& ctx, const Model& model, const Model& reference, size_t layer,
                     Slot slot) {
  const Weight &w = model.layers()[layer].weight(slot), &r = reference.layers()[layer].weight(slot);
  const bool permuted =
      (slot == Slot::kQ || slot == Slot::kK) && model.config().rope_style != reference.config().rope_style;
  const bool model_permuted = model.config().rope_style == RopeStyle::kInterleaved;
  std::vector<float> a(static_cast<size_t>(w.n_in)), b(static_cast<size_t>(w.n_in));
  double difference = 0, norm = 0;
  for (int64_t row = 0; row < w.n_out; ++row) {
    const int64_t other = permuted ? PermutedRow(row, model.config().head_dim) : row;
    ctx.kernels.decode_row[static_cast<int>(w.type)](w.row(model_permuted ? row : other), a.data(), w.n_in);
    ctx.kernels.decode_row[static_cast<int>(r.type)](r.row(model_permuted ? other : row), b.data(), r.n_in);
    for (size_t j = 0; j < a.size(); ++j) {
      difference += (a[j] - b[j]) * (a[j] - b[j]);
      norm += b[j] * b[j];
    }
  }
  return norm > 0 ? std::sqrt(difference / norm) : 0;
}

}  // namespace

int64_t MeasurePeakMemory(const Context& ctx, const Model& model, const TokenWindows& windows,
                          const PerplexityOptions& options) {
  const Tensor hidden = HiddenStates(ctx, model, windows[0], options);
  Logits(ctx, model, Rows(hidden, windows.first_scored(), std::min(kRowsAtOnce, windows.n_scored())));
  return PeakRssBytes();
}

Result<PerplexityResult> MeasurePerplexity(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                           const TokenWindows& windows, const PerplexityOptions& options,
                                           const ProgressFn& progress) {
  CHECK(!options.reference || !options.saved_reference);
  if (options.reference && options.reference->config().vocab_size != model.config().vocab_size) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: has a vocabulary of {}, the model one of {}",
                     options.reference->file().path, options.reference->config().vocab_size,
                     model.config().vocab_size);
  }
  if (options.saved_reference) {
    RETURN_IF_ERROR(options.saved_reference->Covers(windows, model.config().vocab_size));
  }
  CHECK(ctx.ranks.size() == 1 || !options.save);
  Runner runner{ctx, model, options, windows};
  for (int64_t i = 0; i < windows.size(); ++i) {
    if (!ctx.ranks.Takes(i)) continue;
    RETURN_IF_ERROR(runner.Window(i));
    const bool go_on = !progress || progress({.stage = "eval",
                                              .done = static_cast<double>((i + 1) * windows.n_ctx),
                                              .total = static_cast<double>(windows.tokens.size()),
                                              .unit = "tokens"});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  runner.Join();
  PerplexityResult result = Summarize(std::move(runner.scores), options.reference || options.saved_reference);
  result.n_windows = windows.size();
  result.seconds = runner.seconds;
  result.tokens_per_second = static_cast<double>(windows.tokens.size()) / runner.seconds;
  result.worst = runner.worst.Examples(tokenizer, windows);
  return result;
}

std::vector<double> WindowDivergences(const PerplexityResult& result) {
  std::vector<double> means(static_cast<size_t>(result.n_windows));
  const size_t each = result.scores.size() / means.size();
  for (size_t i = 0; i < result.scores.size(); ++i) {
    means[i / each] += result.scores[i].kld / static_cast<double>(each);
  }
  return means;
}

PerplexityResult Pool(const std::vector<const PerplexityResult*>& results) {
  std::vector<TokenScore> scores;
  double seconds = 0, tokens = 0;
  int64_t n_windows = 0;
  for (const PerplexityResult* result : results) {
    n_windows += result->n_windows;
    scores.insert(scores.end(), result->scores.begin(), result->scores.end());
    seconds += result->seconds;
    tokens += result->seconds * result->tokens_per_second;
  }
  PerplexityResult pooled = Summarize(std::move(scores), results[0]->kld_mean.has_value());
  pooled.n_windows = n_windows;
  pooled.seconds = seconds;
  pooled.tokens_per_second = tokens / seconds;
  return pooled;
}

ModelSize MeasureSize(const Model& model) {
  ModelSize size;
  for (const TensorInfo& t : model.file().tensors()) {
    size.weight_bytes += static_cast<int64_t>(t.bytes.size());
    size.n_parameters += t.n_elements();
  }
  if (model.file().gguf) {
    size.file_bytes = static_cast<int64_t>(model.file().gguf->file->bytes().size());
  } else {
    for (const auto& file : model.file().hf->weights.files)
      size.file_bytes += static_cast<int64_t>(file->bytes().size());
  }
  return size;
}

std::vector<LayerError> MeasureLayerErrors(const Context& ctx, const Model& model, const Model& reference) {
  const auto& layers = model.layers();
  if (layers.size() != reference.layers().size() || model.config().head_dim != reference.config().head_dim) {
    return {};
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      const Weight &w = layers[i].linear[s], &r = reference.layers()[i].linear[s];
      if (w.n_out != r.n_out || w.n_in != r.n_in) return {};
    }
  }
  std::vector<LayerError> errors(layers.size() * kNumLinearSlots);
  ctx.pool.ParallelFor(static_cast<int64_t>(errors.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t layer = i / kNumLinearSlots;
      const Slot slot = static_cast<Slot>(i % kNumLinearSlots);
      errors[static_cast<size_t>(i)] = {
          layer, ShortModuleName(*model.config().arch, slot),
          Name(layers[static_cast<size_t>(layer)].weight(slot).type),
          RelativeError(ctx, model, reference, static_cast<size_t>(layer), slot)};
    }
  });
  return errors;
}

}  // namespace thimble

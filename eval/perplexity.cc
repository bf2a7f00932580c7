#include "eval/perplexity.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/clock.h"
#include "model/adapter.h"

namespace thimble {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // logits of a 262,144-token vocabulary for 64 rows are 67 MB

Tensor Rows(const Tensor& x, int64_t begin, int64_t n) {
  Tensor out = Tensor::Empty(n, x.cols());
  std::memcpy(out.data(), x.row(begin), static_cast<size_t>(out.size()) * sizeof(float));
  return out;
}

double LogSumExp(const float* x, int64_t n) {
  const float max = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - max);
  return max + std::log(sum);
}

struct Score {
  double nll = 0, reference_nll = 0, kld = 0;
  bool same_top = false;
};

Score ScoreRow(const float* logits, const float* reference, int64_t n, TokenId target) {
  Score score;
  const double lse = LogSumExp(logits, n);
  score.nll = lse - logits[target];
  if (reference == nullptr) return score;
  const double reference_lse = LogSumExp(reference, n);
  score.reference_nll = reference_lse - reference[target];
  double kld = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double log_p = reference[i] - reference_lse;
    if (log_p > -30) kld += std::exp(log_p) * (log_p - (logits[i] - lse));
  }
  score.kld = std::max(0.0, kld);
  score.same_top =
      std::max_element(logits, logits + n) - logits == std::max_element(reference, reference + n) - reference;
  return score;
}

struct Runner {
  const Context& ctx;
  const Model& model;
  const PerplexityOptions& options;
  std::unique_ptr<Model> reference = {};
  std::vector<Score> scores = {};
  double seconds = 0;

  void Window(std::span<const TokenId> tokens) {
    const double begin = Seconds();
    std::optional<KvCache> cache;
    if (options.kv) cache.emplace(model.config(), options.n_ctx, *options.kv);
    const Tensor hidden = ForwardHidden(
        ctx, model, {.tokens = tokens, .cache = cache ? &*cache : nullptr, .adapters = options.adapters});
    seconds += Seconds() - begin;
    Context exact = ctx;
    exact.compute = Compute::kF32;
    const Tensor reference_hidden =
        reference ? ForwardHidden(exact, *reference, {.tokens = tokens}) : Tensor();
    const int64_t first = options.n_ctx / 2, last = options.n_ctx - 1, vocab = model.config().vocab_size;
    for (int64_t row = first; row < last; row += kRowsAtOnce) {
      const int64_t n = std::min(kRowsAtOnce, last - row);
      const double logits_begin = Seconds();
      const Tensor logits = Logits(ctx, model, Rows(hidden, row, n));
      seconds += Seconds() - logits_begin;
      const Tensor other = reference ? Logits(exact, *reference, Rows(reference_hidden, row, n)) : Tensor();
      const size_t at = scores.size();
      scores.resize(at + static_cast<size_t>(n));
      ctx.pool.ParallelFor(n, 1, [&](int64_t begin_row, int64_t end_row, int) {
        for (int64_t i = begin_row; i < end_row; ++i) {
          scores[at + static_cast<size_t>(i)] =
              ScoreRow(logits.row(i), other ? other.row(i) : nullptr, vocab, tokens[row + i + 1]);
        }
      });
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
std::pair<double, double> MeanAndError(const std::vector<Score>& scores, F value) {
  double sum = 0, sum2 = 0;
  for (const Score& s : scores) sum += value(s);
  const double n = static_cast<double>(scores.size()), mean = sum / n;
  for (const Score& s : scores) sum2 += (value(s) - mean) * (value(s) - mean);
  return {mean, std::sqrt(sum2 / n / std::max(1.0, n - 1))};
}

PerplexityResult Summarize(const Runner& runner) {
  PerplexityResult result;
  const auto& scores = runner.scores;
  result.n_tokens = static_cast<int64_t>(scores.size());
  const auto [nll, nll_se] = MeanAndError(scores, [](const Score& s) { return s.nll; });
  result.ppl = std::exp(nll);
  result.ppl_se = nll_se * result.ppl;
  if (!runner.reference) return result;
  result.reference_ppl = std::exp(MeanAndError(scores, [](const Score& s) { return s.reference_nll; }).first);
  std::tie(result.kld_mean, result.kld_se) = MeanAndError(scores, [](const Score& s) { return s.kld; });
  int64_t same = 0;
  for (const Score& s : scores) {
    same += s.same_top;
    result.kld.push_back(static_cast<float>(s.kld));
  }
  std::vector<float> sorted = result.kld;
  std::sort(sorted.begin(), sorted.end());
  result.kld_median = Quantile(sorted, 0.5);
  result.kld_p99 = Quantile(sorted, 0.99);
  result.top1_agreement = static_cast<double>(same) / static_cast<double>(scores.size());
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

int64_t PeakRssBytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

Result<PerplexityResult> MeasurePerplexity(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                           const std::string& text, const PerplexityOptions& options,
                                           const ProgressFn& progress) {
  std::vector<TokenId> tokens = tokenizer.Encode(text, true, false);
  const int64_t n_ctx = options.n_ctx;
  if (n_ctx < 4)
    return MakeError(ErrorCode::kInvalidArgument, "a window needs at least 4 tokens, not {}", n_ctx);
  int64_t n_windows = static_cast<int64_t>(tokens.size()) / n_ctx;
  if (n_windows < 1) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the text has {} tokens; one window needs at least {}: give a longer text or a smaller "
                     "--ctx-size",
                     tokens.size(), n_ctx);
  }
  if (options.max_windows > 0) n_windows = std::min(n_windows, options.max_windows);
  for (TokenId id : tokens) {
    if (id >= model.config().vocab_size) {
      return MakeError(ErrorCode::kCorrupt, "the tokenizer gives id {}, the model has {} embeddings", id,
                       model.config().vocab_size);
    }
  }

  Runner runner{ctx, model, options};
  int64_t peak_rss = 0;
  for (int64_t i = 0; i < n_windows; ++i) {
    const std::span window(tokens.data() + i * n_ctx, static_cast<size_t>(n_ctx));
    if (tokenizer.spec().add_bos && tokenizer.spec().bos) window[0] = *tokenizer.spec().bos;
    if (i == 0) {  // memory is the model's own: measured before the reference is there
      runner.Window(window);
      peak_rss = PeakRssBytes();
      runner.scores.clear();
      runner.seconds = 0;
      if (!options.reference.empty()) {
        ASSIGN_OR_RETURN(runner.reference, Model::Load(options.reference));
      }
      if (runner.reference && runner.reference->config().vocab_size != model.config().vocab_size) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: has a vocabulary of {}, the model one of {}",
                         options.reference, runner.reference->config().vocab_size, model.config().vocab_size);
      }
    }
    runner.Window(window);
    const bool go_on = !progress || progress({.stage = "eval",
                                              .done = static_cast<double>((i + 1) * n_ctx),
                                              .total = static_cast<double>(n_windows * n_ctx),
                                              .unit = "tokens"});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  PerplexityResult result = Summarize(runner);
  result.tokens_per_second = static_cast<double>(n_windows * n_ctx) / runner.seconds;
  result.peak_rss_bytes = peak_rss;
  return result;
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

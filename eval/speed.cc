#include "eval/speed.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/random.h"
#include "eval/perplexity.h"

namespace thimble {
namespace {

// Logits of the last token only, as generation needs them.
void Feed(const Context& ctx, const Model& model, KvCache& cache, std::span<const int32_t> tokens) {
  const Tensor hidden = ForwardHidden(ctx, model, {.tokens = tokens, .cache = &cache});
  Tensor last = Tensor::Empty(1, hidden.cols());
  std::memcpy(last.data(), hidden.row(hidden.rows() - 1), static_cast<size_t>(hidden.cols()) * sizeof(float));
  Logits(ctx, model, last);
}

}  // namespace

Result<SpeedResult> MeasureSpeed(const Context& ctx, const Model& model, const SpeedOptions& options,
                                 const ProgressFn& progress) {
  if (options.n_prompt < 0 || options.n_gen < 0 || options.n_prompt + options.n_gen == 0 ||
      options.repeat < 1) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "nothing to measure: give tokens to read or to write, and at least one repetition");
  }
  Random random(0);
  const int64_t n = std::max(options.n_prompt, options.n_gen);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& id : tokens) {
    id = static_cast<int32_t>(random.Below(static_cast<uint64_t>(model.config().vocab_size)));
  }
  KvCache cache(model.config(), n);
  SpeedResult result;
  for (int64_t i = 0; i <= options.repeat; ++i) {
    if (options.n_prompt > 0) {
      cache.Truncate(0);
      const double begin = Seconds();
      Feed(ctx, model, cache, std::span(tokens).first(static_cast<size_t>(options.n_prompt)));
      result.prefill.push_back(static_cast<double>(options.n_prompt) / (Seconds() - begin));
    }
    if (options.n_gen > 0) {
      cache.Truncate(0);
      const double begin = Seconds();
      for (int64_t t = 0; t < options.n_gen; ++t) {
        Feed(ctx, model, cache, std::span(tokens).subspan(static_cast<size_t>(t), 1));
      }
      result.decode.push_back(static_cast<double>(options.n_gen) / (Seconds() - begin));
    }
    const bool go_on = !progress || progress({.stage = "bench",
                                              .done = static_cast<double>(i + 1),
                                              .total = static_cast<double>(options.repeat + 1),
                                              .unit = "repetitions"});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  for (auto* rates : {&result.prefill, &result.decode}) {
    if (!rates->empty()) rates->erase(rates->begin());
  }
  result.peak_rss_bytes = PeakRssBytes();
  return result;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

}  // namespace thimble

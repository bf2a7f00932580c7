#include "eval/speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/memory.h"
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

std::string SpeedResult::Name() const {
  return n_prompt > 0 ? fmt::format("pp{}", n_prompt) : fmt::format("tg{}", n_gen);
}

Result<std::vector<SpeedResult>> MeasureSpeed(const Context& ctx, const Model& model,
                                              const SpeedOptions& options, const ProgressFn& progress) {
  std::vector<SpeedResult> results;
  for (int64_t n : options.n_prompt) results.push_back({.n_prompt = n});
  for (int64_t n : options.n_gen) results.push_back({.n_gen = n});
  std::erase_if(results, [](const SpeedResult& r) { return r.n_prompt + r.n_gen == 0; });
  const auto bad = [](const SpeedResult& r) { return r.n_prompt < 0 || r.n_gen < 0; };
  if (results.empty() || std::any_of(results.begin(), results.end(), bad) || options.repeat < 1) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "nothing to measure: give tokens to read or to write, and at least one repetition");
  }
  int64_t longest = 0;
  for (const SpeedResult& r : results) longest = std::max({longest, r.n_prompt, r.n_gen});
  Random random(0);
  std::vector<int32_t> tokens(static_cast<size_t>(longest));
  for (int32_t& id : tokens) {
    id = static_cast<int32_t>(random.Below(static_cast<uint64_t>(model.config().vocab_size)));
  }
  KvCache cache(model.config(), longest, options.kv);
  const auto run = [&](int64_t n_prompt, int64_t n_gen) {
    cache.Truncate(0);
    if (n_prompt > 0) Feed(ctx, model, cache, std::span(tokens).first(static_cast<size_t>(n_prompt)));
    for (int64_t t = 0; t < n_gen; ++t) {
      Feed(ctx, model, cache, std::span(tokens).subspan(static_cast<size_t>(t), 1));
    }
  };
  for (const SpeedResult& r : results) run(r.n_prompt, std::min<int64_t>(r.n_gen, 1));
  for (int64_t i = 0; i < options.repeat; ++i) {
    for (SpeedResult& r : results) {
      const double begin = Seconds();
      run(r.n_prompt, r.n_gen);
      r.rates.push_back(static_cast<double>(r.n_prompt + r.n_gen) / (Seconds() - begin));
      r.peak_rss_bytes = PeakRssBytes();
    }
    const bool go_on = !progress || progress({.stage = "bench",
                                              .done = static_cast<double>(i + 1),
                                              .total = static_cast<double>(options.repeat),
                                              .unit = "repetitions"});
    if (!go_on) return MakeError(ErrorCode::kCancelled, "interrupted");
  }
  return results;
}

PackedSize MeasurePacked(const Model& model) {
  PackedSize size;
  const auto add = [&](const Weight& w) {
    if (w.packed == nullptr) return;
    size.packed_bytes += w.packed->packed_bytes();
    size.released_bytes += w.packed->released_bytes();
  };
  add(model.output());
  for (const Layer& layer : model.layers()) {
    for (const Weight& w : layer.linear) add(w);
  }
  return size;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

double BytesPerToken(const Model& model, int64_t n_gen, KvTypes kv) {
  const auto bytes = [](const Weight& w) {
    return static_cast<double>(RowBytes(w.type, w.n_in)) * static_cast<double>(w.n_out);
  };
  double total = bytes(model.output());
  total += static_cast<double>(RowBytes(model.embedding().type, model.embedding().n_in));
  for (const Layer& layer : model.layers()) {
    for (const Weight& w : layer.linear) total += bytes(w);
  }
  const double cached = static_cast<double>(KvCache::BytesPerToken(model.config(), kv));
  return total + cached * static_cast<double>(n_gen) / 2;
}

double MultiplyAddsPerToken(const Model& model) {
  double total = 0;
  for (const Layer& layer : model.layers()) {
    for (const Weight& w : layer.linear) total += static_cast<double>(w.n_out) * static_cast<double>(w.n_in);
  }
  return total;
}

}  // namespace thimble

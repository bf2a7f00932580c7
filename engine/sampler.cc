#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "base/check.h"

namespace thimble {

TokenId Sampler::Sample(std::span<float> logits, std::span<const TokenId> history) {
  CHECK(!logits.empty());
  if (params_.repeat_penalty != 1 && params_.repeat_last_n > 0) {
    const size_t n = std::min(history.size(), static_cast<size_t>(params_.repeat_last_n));
    const auto recent = history.last(n);
    for (TokenId id : std::unordered_set<TokenId>(recent.begin(), recent.end())) {
      float& logit = logits[id];
      const float penalty = static_cast<float>(params_.repeat_penalty);
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  if (params_.temperature <= 0) {
    return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({static_cast<TokenId>(i), logits[i], 0});
  const auto by_logit = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const size_t k = params_.top_k > 0
                       ? std::min<size_t>(candidates_.size(), static_cast<size_t>(params_.top_k))
                       : candidates_.size();
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k), candidates_.end(),
                    by_logit);
  candidates_.resize(k);

  const double max = candidates_[0].logit;
  double sum = 0;
  for (Candidate& c : candidates_) sum += c.p = std::exp(c.logit - max);
  size_t keep = 0;
  for (double mass = 0; keep < candidates_.size(); ++keep) {
    const double p = candidates_[keep].p / sum;
    if (keep > 0 && (mass >= params_.top_p || p < params_.min_p * candidates_[0].p / sum)) break;
    mass += p;
  }
  candidates_.resize(keep);

  double total = 0;
  for (Candidate& c : candidates_) total += c.p = std::exp((c.logit - max) / params_.temperature);
  double r = random_.Uniform() * total;
  for (const Candidate& c : candidates_) {
    r -= c.p;
    if (r < 0) return c.id;
  }
  return candidates_.back().id;
}

}  // namespace thimble

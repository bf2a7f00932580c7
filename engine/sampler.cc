#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "base/check.h"
#include "base/random.h"

namespace thimble {

std::span<const Candidate> Sampler::Distribution(std::span<float> logits, std::span<const TokenId> history) {
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
  candidates_.clear();
  if (params_.temperature <= 0) {
    const auto best = std::max_element(logits.begin(), logits.end());
    candidates_.push_back({static_cast<TokenId>(best - logits.begin()), 1});
    return candidates_;
  }

  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({static_cast<TokenId>(i), logits[i]});
  const auto by_logit = [](const Candidate& a, const Candidate& b) {
    return a.p != b.p ? a.p > b.p : a.id < b.id;
  };
  const size_t k = params_.top_k > 0
                       ? std::min<size_t>(candidates_.size(), static_cast<size_t>(params_.top_k))
                       : candidates_.size();
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k), candidates_.end(),
                    by_logit);
  candidates_.resize(k);

  const double max = candidates_[0].p;
  double sum = 0;
  for (const Candidate& c : candidates_) sum += std::exp(c.p - max);
  size_t keep = 0;
  for (double mass = 0; keep < candidates_.size(); ++keep) {
    const double relative = std::exp(candidates_[keep].p - max);
    if (keep > 0 && (mass >= params_.top_p || relative < params_.min_p)) break;
    mass += relative / sum;
  }
  candidates_.resize(keep);

  double total = 0;
  for (Candidate& c : candidates_) total += c.p = std::exp((c.p - max) / params_.temperature);
  for (Candidate& c : candidates_) c.p /= total;
  return candidates_;
}

TokenId Sampler::Draw(std::span<const Candidate> candidates) {
  Random draw(params_.seed ^ Random(n_draws_++).Next());
  const uint64_t key = draw.Next();
  TokenId best = candidates[0].id;
  double least = std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates) {
    // The time until an event of rate p: the first of them is the candidate's with probability p.
    const double u = Random(key + static_cast<uint64_t>(c.id)).Uniform();
    const double time = -std::log1p(-u) / c.p;
    if (time < least) {
      least = time;
      best = c.id;
    }
  }
  return best;
}

}  // namespace thimble

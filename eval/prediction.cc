#include "eval/prediction.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace thimble {
namespace {

// exp(x - max) in F32, summed in F64: sums over different tokens can be taken from one another.
struct Softmax {
  std::span<const float> logits;
  float max;
  double sum = 0;

  explicit Softmax(std::span<const float> x) : logits(x), max(*std::max_element(x.begin(), x.end())) {
    for (float value : x) sum += std::exp(value - max);
  }
  float Term(TokenId id) const { return std::exp(logits[static_cast<size_t>(id)] - max); }
  double log_sum() const { return max + std::log(sum); }
};

TokenId Top(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// The k largest, by a heap with the least of them in front.
std::vector<TokenId> Largest(std::span<const float> logits, int64_t k) {
  const auto before = [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::vector<TokenId> heap;
  for (TokenId id = 0; id < static_cast<TokenId>(logits.size()); ++id) {
    if (static_cast<int64_t>(heap.size()) == k) {
      if (!before(id, heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), before);
      heap.back() = id;
    } else {
      heap.push_back(id);
    }
    std::push_heap(heap.begin(), heap.end(), before);
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  return heap;
}

}  // namespace

std::vector<TokenLogProb> MostLikely(std::span<const float> logits, int64_t k) {
  const double log_sum = Softmax(logits).log_sum();
  std::vector<TokenLogProb> out;
  for (TokenId id : Largest(logits, k)) {
    out.push_back({id, static_cast<float>(logits[static_cast<size_t>(id)] - log_sum)});
  }
  return out;
}

Prediction KeepPrediction(std::span<const float> logits, int64_t top_k, int64_t n_tail, TokenId target,
                          uint64_t seed) {
  const Softmax softmax(logits);
  const double log_sum = softmax.log_sum();
  const auto log_p = [&](TokenId id) {
    return static_cast<float>(logits[static_cast<size_t>(id)] - log_sum);
  };
  Prediction kept{.target_log_p = log_p(target), .top = {}, .tail = {}};
  std::vector<TokenId> top = Largest(logits, top_k);
  for (TokenId id : top) kept.top.push_back({id, log_p(id)});
  // The tail by itself, not 1 - top: nothing is lost where it is small.
  std::sort(top.begin(), top.end());
  const auto over_tail = [&](const auto& visit) {
    auto next = top.begin();
    for (TokenId id = 0; id < static_cast<TokenId>(logits.size()); ++id) {
      if (next != top.end() && *next == id) {
        ++next;
      } else if (!visit(id, softmax.Term(id))) {
        return;
      }
    }
  };
  double mass = 0;
  over_tail([&](TokenId, float term) {
    mass += term;
    return true;
  });
  kept.log_tail = std::log(mass / softmax.sum);
  if (mass == 0 || n_tail == 0) return kept;
  // Systematic sampling: equal steps through the tail's mass from a random start.
  Random random(seed);
  const double step = mass / static_cast<double>(n_tail);
  double at = step * random.Uniform(), passed = 0;
  TokenId last = 0;
  over_tail([&](TokenId id, float term) {
    if (term > 0) last = id;
    for (passed += term; passed > at && static_cast<int64_t>(kept.tail.size()) < n_tail; at += step) {
      kept.tail.push_back({id, log_p(id)});
    }
    return static_cast<int64_t>(kept.tail.size()) < n_tail;
  });
  kept.tail.resize(static_cast<size_t>(n_tail), {last, log_p(last)});  // where rounding ends the walk early
  return kept;
}

TokenScore ScoreAlone(std::span<const float> logits, TokenId target) {
  return {.nll = Softmax(logits).log_sum() - logits[static_cast<size_t>(target)],
          .right = Top(logits) == target};
}

TokenScore ScoreAgainst(std::span<const float> logits, std::span<const float> reference, TokenId target) {
  const double log_sum = Softmax(logits).log_sum(), reference_log_sum = Softmax(reference).log_sum();
  const TokenId top = Top(logits), reference_top = Top(reference);
  double kld = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double log_p = reference[i] - reference_log_sum;
    if (log_p > -30) kld += std::exp(log_p) * (log_p - (logits[i] - log_sum));
  }
  return {.nll = log_sum - logits[static_cast<size_t>(target)],
          .reference_nll = reference_log_sum - reference[static_cast<size_t>(target)],
          .kld = std::max(0.0, kld),
          .same_top = top == reference_top,
          .right = top == target,
          .reference_right = reference_top == target};
}

TokenScore ScoreAgainst(std::span<const float> logits, const Prediction& reference, TokenId target) {
  const Softmax softmax(logits);
  const double log_sum = softmax.log_sum();
  const TokenId top = Top(logits);
  TokenScore score{.nll = log_sum - logits[static_cast<size_t>(target)],
                   .reference_nll = -reference.target_log_p,
                   .same_top = top == reference.top[0].id,
                   .right = top == target,
                   .reference_right = reference.top[0].id == target};
  // Probabilities that were rounded in a file do not add up to 1: `log_mass` is what they add up to.
  double mass = std::exp(reference.log_tail), q_top = 0;
  for (const TokenLogProb& token : reference.top) {
    mass += std::exp(token.log_p);
    q_top += softmax.Term(token.id);
  }
  const double log_mass = std::log(mass), log_tail = reference.log_tail - log_mass;
  double kld = 0;
  for (const TokenLogProb& token : reference.top) {
    const double log_p = token.log_p - log_mass;
    kld += std::exp(log_p) * (log_p - (logits[static_cast<size_t>(token.id)] - log_sum));
  }
  if (log_tail > -30) {
    const double q_tail = std::max(softmax.sum - q_top, std::numeric_limits<float>::min() * softmax.sum);
    const double log_q_tail = std::log(q_tail / softmax.sum);
    double within = 0;
    for (const TokenLogProb& token : reference.tail) {
      const double log_p = token.log_p - reference.log_tail;
      const double log_q = logits[static_cast<size_t>(token.id)] - log_sum - log_q_tail;
      within += std::expm1(log_q - log_p) - (log_q - log_p);
    }
    if (!reference.tail.empty()) within /= static_cast<double>(reference.tail.size());
    kld += std::exp(log_tail) * (log_tail - log_q_tail + within);
  }
  score.kld = std::max(0.0, kld);
  return score;
}

}  // namespace thimble

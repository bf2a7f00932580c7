// What a model expects to follow at one position, and how far another model is from it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

struct TokenLogProb {
  TokenId id;
  float log_p;  // nats
};

// What is kept of a prediction: its most likely tokens, and a sample of all others (the tail). The tail holds
// most of a flat prediction's divergence: leaving it at its mass alone would miss a fifth of the divergence
// of English text for 64 tokens, and 9 % for 256 (docs/formats/tref.md).
struct Prediction {
  double target_log_p = 0;         // of the token that did follow
  double log_tail = 0;             // of what the tail has together; -infinity: nothing
  std::vector<TokenLogProb> top;   // most likely first; of two that are equal, the smaller id first
  std::vector<TokenLogProb> tail;  // drawn from the tail in proportion to their probability, by id
};

// The same `seed` draws the same tokens: every model is compared at the same ones. `top_k` is at least 1.
Prediction KeepPrediction(std::span<const float> logits, int64_t top_k, int64_t n_tail, TokenId target,
                          uint64_t seed);

// The `k` most likely tokens, most likely first.
std::vector<TokenLogProb> MostLikely(std::span<const float> logits, int64_t k);

// At one position. What concerns a reference is 0 or false where there is none.
struct TokenScore {
  double nll = 0, reference_nll = 0;            // -log p of the token that followed
  double kld = 0;                               // KL(reference || model), nats
  bool same_top = false;                        // both expect the same token most
  bool right = false, reference_right = false;  // and that token followed
};

TokenScore ScoreAlone(std::span<const float> logits, TokenId target);
// Exactly, over the whole vocabulary. Both of the same size.
TokenScore ScoreAgainst(std::span<const float> logits, std::span<const float> reference, TokenId target);
// The divergence is exact in the tokens of `top` and in the mass of the tail. What the two differ by within
// the tail is estimated from its sample by r - 1 - log r for the ratio r of the two conditional probabilities
// (Schulman 2020, "Approximating KL divergence", k3): without bias, and never negative.
TokenScore ScoreAgainst(std::span<const float> logits, const Prediction& reference, TokenId target);

}  // namespace thimble

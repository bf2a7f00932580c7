// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

// Defaults are llama.cpp's. A value that switches its filter off stands in the comment.
struct SamplingParams {
  double temperature = 0.8;     // 0: always the most likely token
  int64_t top_k = 40;           // 0: off
  double top_p = 0.95;          // 1: off (Holtzman et al. 2020)
  double min_p = 0.05;          // 0: off; keeps p >= min_p * max p
  double repeat_penalty = 1.0;  // 1: off (Keskar et al. 2019, section 4.1)
  int64_t repeat_last_n = 64;   // tokens that the penalty looks back at
  uint64_t seed = 0;
};

struct Candidate {
  TokenId id;
  double p;
};

// Order: repetition penalty, top-k, top-p, min-p, temperature. The same seed gives the same tokens.
//
// A draw takes a random number for each candidate, which depends on the seed, on how many draws there were
// before and on the candidate's id, and the smallest one in proportion to its probability wins (the
// Gumbel-max trick). So two samplers in the same state tend to draw the same token from similar
// distributions: a drafter with a copy of the sampler guesses well, and each token is still drawn from the
// model's own distribution (Daliri, Musco, Suresh 2024). Of distributions P and Q at total variation distance
// d, the draws agree with a probability of at least (1 - d) / (1 + d).
class Sampler {
 public:
  explicit Sampler(const SamplingParams& params) : params_(params) {}

  // `history`: the tokens so far, prompt included. Changes `logits` where the penalty applies.
  TokenId Sample(std::span<float> logits, std::span<const TokenId> history) {
    return Draw(Distribution(logits, history));
  }

  // What remains after all filters: likeliest first, the probabilities sum to 1. Valid until the next call.
  std::span<const Candidate> Distribution(std::span<float> logits, std::span<const TokenId> history);
  TokenId Draw(std::span<const Candidate> candidates);

 private:
  SamplingParams params_;
  uint64_t n_draws_ = 0;
  std::vector<Candidate> candidates_;
};

}  // namespace thimble

// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
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

// Order: repetition penalty, top-k, top-p, min-p, temperature. The same seed gives the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingParams& params) : params_(params), random_(params.seed) {}
  // `history`: the tokens so far, prompt included. Changes `logits` where the penalty applies.
  TokenId Sample(std::span<float> logits, std::span<const TokenId> history);

 private:
  struct Candidate {
    TokenId id;
    float logit;
    double p;
  };
  SamplingParams params_;
  Random random_;
  std::vector<Candidate> candidates_;
};

}  // namespace thimble

// The types that cost least under a budget.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "quant/sensitivity.h"

namespace thimble {

struct TypeChoice {
  std::vector<size_t> choice;  // per tensor: which of its choices
  uint64_t bytes = 0;
  double kld = 0;  // the sum over tensors
};

// Of the smallest choices.
uint64_t LeastBytes(std::span<const TensorCosts> tensors);

// The least sum of costs with at most `max_bytes`: exact up to rounding each tensor's size up, by 1 / 32768
// of what the budget leaves beyond the smallest choices, and then improved by single changes. Error
// kNotFound: even the smallest choices are larger.
Result<TypeChoice> SolveForBytes(std::span<const TensorCosts> tensors, uint64_t max_bytes);
// The least bytes with a cost of at most `max_kld`. Error kNotFound: even the largest choices cost more.
Result<TypeChoice> SolveForKld(std::span<const TensorCosts> tensors, double max_kld);

// Choices on the way from the smallest to the best, each the best of its size; by bytes.
std::vector<TypeChoice> ParetoFront(std::span<const TensorCosts> tensors, int points);

}  // namespace thimble

#include "quant/solver.h"

#include <algorithm>
#include <cmath>

namespace thimble {
namespace {

constexpr int64_t kUnits = 32768;  // that a budget is divided into

TypeChoice Summed(std::span<const TensorCosts> tensors, std::vector<size_t> choice) {
  TypeChoice sum{std::move(choice)};
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TypeCost& cost = tensors[i].choices[sum.choice[i]];
    sum.bytes += cost.bytes;
    sum.kld += cost.kld;
  }
  return sum;
}

// Single changes that still fit, the best first, until none lowers the cost.
void Improve(std::span<const TensorCosts> tensors, uint64_t max_bytes, TypeChoice& best) {
  for (;;) {
    double gain = 0;
    size_t tensor = 0, to = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TypeCost& now = tensors[i].choices[best.choice[i]];
      for (size_t c = 0; c < tensors[i].choices.size(); ++c) {
        const TypeCost& other = tensors[i].choices[c];
        if (best.bytes - now.bytes + other.bytes > max_bytes || !(now.kld - other.kld > gain)) continue;
        gain = now.kld - other.kld;
        tensor = i;
        to = c;
      }
    }
    if (gain <= 0) return;
    std::vector<size_t> choice = best.choice;
    choice[tensor] = to;
    best = Summed(tensors, std::move(choice));
  }
}

}  // namespace

uint64_t LeastBytes(std::span<const TensorCosts> tensors) {
  uint64_t bytes = 0;
  for (const TensorCosts& t : tensors) {
    bytes += std::min_element(t.choices.begin(), t.choices.end(), [](const TypeCost& a, const TypeCost& b) {
               return a.bytes < b.bytes;
             })->bytes;
  }
  return bytes;
}

// Multiple-choice knapsack by dynamic programming over units of the budget beyond the smallest choices.
Result<TypeChoice> SolveForBytes(std::span<const TensorCosts> tensors, uint64_t max_bytes) {
  const uint64_t least = LeastBytes(tensors);
  if (least > max_bytes) {
    return MakeError(ErrorCode::kNotFound,
                     "even the smallest types take {} bytes, the budget leaves {} for weights", least,
                     max_bytes);
  }
  const uint64_t spare = max_bytes - least;
  const double unit = std::max(1.0, static_cast<double>(spare) / kUnits);
  const int64_t units = static_cast<int64_t>(static_cast<double>(spare) / unit);
  std::vector<double> cost(static_cast<size_t>(units + 1), 0.0), next;
  std::vector<std::vector<uint8_t>> chosen(tensors.size(), std::vector<uint8_t>(cost.size()));
  std::vector<std::vector<int64_t>> sizes(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& choices = tensors[i].choices;
    uint64_t smallest = UINT64_MAX;
    for (const TypeCost& c : choices) smallest = std::min(smallest, c.bytes);
    for (const TypeCost& c : choices) {
      sizes[i].push_back(static_cast<int64_t>(std::ceil(static_cast<double>(c.bytes - smallest) / unit)));
    }
    next.assign(cost.size(), INFINITY);
    for (size_t c = 0; c < choices.size(); ++c) {
      const int64_t size = sizes[i][c];
      const double kld = choices[c].kld, *before = cost.data();
      double* after = next.data() + std::min(size, units + 1);
      uint8_t* by = chosen[i].data() + std::min(size, units + 1);
      for (int64_t u = 0; u <= units - size; ++u) {  // without branches, so that it is done in lanes
        const double sum = before[u] + kld;
        const bool less = sum < after[u];
        after[u] = less ? sum : after[u];
        by[u] = less ? static_cast<uint8_t>(c) : by[u];
      }
    }
    cost.swap(next);
  }
  std::vector<size_t> choice(tensors.size());
  int64_t left = units;
  for (size_t i = tensors.size(); i-- > 0;) {
    choice[i] = chosen[i][static_cast<size_t>(left)];
    left -= sizes[i][choice[i]];
  }
  TypeChoice best = Summed(tensors, std::move(choice));
  Improve(tensors, max_bytes, best);
  return best;
}

Result<TypeChoice> SolveForKld(std::span<const TensorCosts> tensors, double max_kld) {
  std::vector<size_t> largest;
  for (const TensorCosts& t : tensors) {
    const auto best = std::min_element(t.choices.begin(), t.choices.end(),
                                       [](const TypeCost& a, const TypeCost& b) { return a.kld < b.kld; });
    largest.push_back(static_cast<size_t>(best - t.choices.begin()));
  }
  TypeChoice best = Summed(tensors, std::move(largest));
  if (best.kld > max_kld) {
    return MakeError(ErrorCode::kNotFound,
                     "even the largest types are expected to cost {:.4f} nats per token, not {}", best.kld,
                     max_kld);
  }
  uint64_t low = LeastBytes(tensors), high = best.bytes;  // bisection: the cost falls as the budget grows
  for (int step = 0; step < 24 && low < high; ++step) {
    const uint64_t middle = low + (high - low) / 2;
    ASSIGN_OR_RETURN(TypeChoice tried, SolveForBytes(tensors, middle));
    if (tried.kld <= max_kld) {
      high = std::min(middle, tried.bytes);
      best = std::move(tried);
    } else {
      low = middle + 1;
    }
  }
  return best;
}

std::vector<TypeChoice> ParetoFront(std::span<const TensorCosts> tensors, int points) {
  const uint64_t least = LeastBytes(tensors);
  uint64_t most = 0;
  for (const TensorCosts& t : tensors) {
    most += std::min_element(t.choices.begin(), t.choices.end(), [](const TypeCost& a, const TypeCost& b) {
              return a.kld < b.kld;
            })->bytes;
  }
  std::vector<TypeChoice> front;
  for (int i = 0; i < points; ++i) {
    const double share = points > 1 ? static_cast<double>(i) / (points - 1) : 0;
    auto choice =
        SolveForBytes(tensors, least + static_cast<uint64_t>(share * static_cast<double>(most - least)));
    const bool better =
        choice && (front.empty() || (choice->bytes > front.back().bytes && choice->kld < front.back().kld));
    if (better) front.push_back(std::move(*choice));
  }
  return front;
}

}  // namespace thimble

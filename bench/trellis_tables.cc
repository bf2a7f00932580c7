// Fits the tables of the additive trellis codes (docs/decisions/native-codes.md) to Gaussian weights, and
// prints them with the error that they leave.
//
//   trellis_tables BITS [AHEAD [SEED]]     BITS 2 to 5; AHEAD: bits from the first nibble to the second
//
// Of many random starts the best is kept, improved by Lloyd's algorithm (paths for the tables, then tables
// for the paths), disturbed and improved again, and rounded to integers. All of a comparison's errors are on
// the same weights.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

namespace {

constexpr int kRing = 32;    // weights whose bits close to a ring
constexpr int kScaled = 64;  // weights with a scale

using Table = std::array<float, 16>;
struct Tables {
  Table own, next;
};

// w[s] ~ own[4 bits of the ring from bit `bits` * s on] + next[4 bits from `ahead` bits further on].
class Ring {
 public:
  Ring(int bits, int ahead) : bits_(bits), ahead_(ahead), n_states_(1 << (ahead + 4 - bits)) {
    cost_.resize(static_cast<size_t>(n_states_));
    next_cost_ = cost_;
    from_.resize(static_cast<size_t>(n_states_) * kRing);
  }

  // The squared error of the best ring that a cut opposite to the seam leads to; `windows` has all bits that
  // each weight reads.
  double Fit(const Tables& tables, const float* x, int* windows) {
    Run(tables, x, kRing / 2, -1);
    Trace(kRing / 2, static_cast<int>(std::min_element(cost_.begin(), cost_.end()) - cost_.begin()), windows);
    const int seam = windows[0] & (n_states_ - 1);
    Run(tables, x, 0, seam);
    Trace(0, seam, windows);
    return static_cast<double>(cost_[static_cast<size_t>(seam)]);
  }
  int Own(int window) const { return window & 15; }
  int Next(int window) const { return window >> ahead_ & 15; }

 private:
  // Viterbi's algorithm through all weights, the first being x[first]. The state between two weights is what
  // both their windows hold; start: -1 for any.
  void Run(const Tables& tables, const float* x, int first, int start) {
    constexpr float kFar = 1e30f;
    for (int s = 0; s < n_states_; ++s) cost_[static_cast<size_t>(s)] = start < 0 || s == start ? 0 : kFar;
    for (int i = 0; i < kRing; ++i) {
      const int at = (first + i) % kRing;
      float errors[16][16];
      for (int own = 0; own < 16; ++own) {
        for (int next = 0; next < 16; ++next) {
          const float e =
              x[at] - tables.own[static_cast<size_t>(own)] - tables.next[static_cast<size_t>(next)];
          errors[own][next] = e * e;
        }
      }
      for (int t = 0; t < n_states_; ++t) {
        float least = std::numeric_limits<float>::infinity();
        int from = 0;
        for (int dropped = 0; dropped < 1 << bits_; ++dropped) {
          const int window = t << bits_ | dropped;
          const float cost =
              cost_[static_cast<size_t>(window & (n_states_ - 1))] + errors[Own(window)][Next(window)];
          if (cost < least) least = cost, from = dropped;
        }
        next_cost_[static_cast<size_t>(t)] = least;
        from_[static_cast<size_t>(at * n_states_ + t)] = static_cast<uint8_t>(from);
      }
      cost_.swap(next_cost_);
    }
  }
  void Trace(int first, int state, int* windows) const {
    for (int i = kRing - 1; i >= 0; --i) {
      const int at = (first + i) % kRing;
      windows[at] = state << bits_ | from_[static_cast<size_t>(at * n_states_ + state)];
      state = windows[at] & (n_states_ - 1);
    }
  }

  const int bits_, ahead_, n_states_;
  std::vector<float> cost_, next_cost_;
  std::vector<uint8_t> from_;
};

std::vector<float> Gaussian(int n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = normal(random);
  return x;
}

// Mean squared error of the rings of x.
double Error(Ring& ring, const Tables& tables, const std::vector<float>& x) {
  double sum = 0;
  int windows[kRing];
  for (size_t i = 0; i < x.size(); i += kRing) sum += ring.Fit(tables, &x[i], windows);
  return sum / static_cast<double>(x.size());
}

// The same where every 64 weights have a scale of 5 bits of exponent and 3 of mantissa, searched for.
double ScaledError(Ring& ring, const Tables& tables, const std::vector<float>& x) {
  double sum = 0;
  int windows[kRing];
  for (size_t i = 0; i < x.size(); i += kScaled) {
    double squares = 0;
    for (size_t j = i; j < i + kScaled; ++j) squares += static_cast<double>(x[j]) * x[j];
    const int middle = static_cast<int>(std::lround(8 * std::log2(std::sqrt(squares / kScaled)))) + 8 * 16;
    double least = std::numeric_limits<double>::infinity();
    for (int code = middle - 3; code <= middle + 3; ++code) {
      const float scale = std::ldexp(1 + static_cast<float>(code & 7) / 8, (code >> 3) - 16);
      float scaled[kScaled];
      for (size_t j = 0; j < kScaled; ++j) scaled[j] = x[i + j] / scale;
      double error = 0;
      for (int h = 0; h < kScaled; h += kRing) error += ring.Fit(tables, scaled + h, windows);
      least = std::min(least, error * static_cast<double>(scale) * scale);
    }
    sum += least;
  }
  return sum / static_cast<double>(x.size());
}

// Lloyd's algorithm, on new weights in each round.
void Improve(Ring& ring, Tables& tables, int rings, int rounds, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (int round = 0; round < rounds; ++round) {
    const std::vector<float> x = Gaussian(rings * kRing, random());
    std::vector<int> windows(x.size());
    for (size_t i = 0; i < x.size(); i += kRing) ring.Fit(tables, &x[i], &windows[i]);
    const auto solve = [&](Table& table, const Table& other, const auto& entry, const auto& other_entry) {
      double sums[16] = {}, counts[16] = {};
      for (size_t i = 0; i < x.size(); ++i) {
        sums[entry(windows[i])] +=
            static_cast<double>(x[i] - other[static_cast<size_t>(other_entry(windows[i]))]);
        counts[entry(windows[i])] += 1;
      }
      for (size_t j = 0; j < 16; ++j)
        table[j] = counts[j] > 0 ? static_cast<float>(sums[j] / counts[j]) : normal(random);
    };
    const auto own = [&](int window) { return ring.Own(window); };
    const auto next = [&](int window) { return ring.Next(window); };
    for (int repeat = 0; repeat < 8; ++repeat) {
      solve(tables.own, tables.next, own, next);
      solve(tables.next, tables.own, next, own);
    }
  }
}

// Rounded to integers whose sums fit in int8: the unit and the common shift that leave the least error.
void PrintIntegers(Ring& ring, const Tables& tables, const std::vector<float>& x) {
  float largest = 0;
  for (const float a : tables.own) {
    for (const float b : tables.next) largest = std::max(largest, std::fabs(a + b));
  }
  double least = std::numeric_limits<double>::infinity();
  Tables best{};
  float best_unit = 0;
  for (int reach = 116; reach <= 127; ++reach) {
    for (const float shift : {0.0f, 0.25f, 0.5f, 0.75f}) {
      const float unit = largest / static_cast<float>(reach);
      Tables rounded{};
      float most = 0;
      for (size_t i = 0; i < 16; ++i) {
        rounded.own[i] = unit * std::nearbyint(tables.own[i] / unit + shift);
        rounded.next[i] = unit * std::nearbyint(tables.next[i] / unit - shift);
      }
      for (const float a : rounded.own) {
        for (const float b : rounded.next) most = std::max(most, std::fabs(a + b) / unit);
      }
      const double error = most < 127.5f ? Error(ring, rounded, x) : least;
      if (error < least) least = error, best = rounded, best_unit = unit;
    }
  }
  std::printf("error %.5f, with scales %.5f, unit %.5f\n", least,
              ScaledError(ring, best, Gaussian(1 << 17, 5)), best_unit);
  for (const Table* table : {&best.own, &best.next}) {
    std::printf(table == &best.own ? "own  {" : "next {");
    for (size_t i = 0; i < 16; ++i)
      std::printf("%s%d", i > 0 ? ", " : "", static_cast<int>(std::lround((*table)[i] / best_unit)));
    std::printf("}\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kStarts = 200, kKept = 4, kDisturbances = 80;
  const int bits = argc > 1 ? std::atoi(argv[1]) : 0, ahead = argc > 2    ? std::atoi(argv[2])
                                                              : bits == 3 ? 6
                                                                          : 4;
  if (bits < 2 || bits > 5 || ahead < bits - 1 || ahead > 8) {
    std::fprintf(stderr, "usage: trellis_tables BITS [AHEAD [SEED]]\n");
    return 1;
  }
  std::mt19937 random(argc > 3 ? static_cast<uint32_t>(std::atoi(argv[3])) : 1);
  std::normal_distribution<float> normal;
  Ring ring(bits, ahead);
  const std::vector<float> few = Gaussian(400 * kScaled, 777), more = Gaussian(1500 * kScaled, 778);
  std::vector<std::pair<double, Tables>> kept;
  for (int start = 0; start < kStarts; ++start) {
    Tables tables;
    const float share = 0.1f + 0.85f * static_cast<float>(random() % 1000) / 1000;  // of the second table
    for (float& value : tables.own) value = normal(random) * std::sqrt(1 - share * share);
    for (float& value : tables.next) value = normal(random) * share;
    Improve(ring, tables, 160, 25, random);
    kept.emplace_back(Error(ring, tables, few), tables);
  }
  const auto by_error = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::sort(kept.begin(), kept.end(), by_error);
  kept.resize(kKept);
  for (auto& [error, tables] : kept) {
    Improve(ring, tables, 800, 10, random);
    error = Error(ring, tables, more);
  }
  auto [error, tables] = *std::min_element(kept.begin(), kept.end(), by_error);
  for (int i = 0; i < kDisturbances; ++i) {
    Tables other = tables;
    if (i % 3 == 0) {
      other.own[random() % 16] = normal(random);
    } else if (i % 3 == 1) {
      other.next[random() % 16] += 0.5f * normal(random);
    } else {
      for (float& value : other.own) value += 0.1f * normal(random);
      for (float& value : other.next) value += 0.1f * normal(random);
    }
    Improve(ring, other, 400, 6, random);
    Improve(ring, other, 1200, 2, random);
    const double now = Error(ring, other, more);
    if (now < error) error = now, tables = other;
  }
  Improve(ring, tables, 12000, 6, random);
  PrintIntegers(ring, tables, more);
}

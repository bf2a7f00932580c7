// The ring of bits of T2 to T5 that leaves the least error (codec/trellis.h): Viterbi's algorithm.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "codec/trellis.h"

// Vectors that are wider than the baseline has stay within a unit. To its end, where GCC says it.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace thimble {

// The code of the scale that is nearest.
inline uint8_t TrellisCode(float scale) {
  int low = 0, high = 255;
  while (low < high) {  // the first that is not less
    const int middle = (low + high) / 2;
    if (TrellisScale(static_cast<uint8_t>(middle)) < scale) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const auto code = static_cast<uint8_t>(low);
  if (low == 0) return code;
  const auto below = static_cast<uint8_t>(low - 1);
  return scale - TrellisScale(below) < TrellisScale(code) - scale ? below : code;
}

// Asks `better` of scales' codes, whether a block with that scale is better than with those before: every
// kStep-th around what the weights' deviation suggests, more of them where a search is quick, and on up to
// where the largest weight is within reach; then the two beside the best. (A kStep of 1 finds the scale that
// a block had before.)
template <int kBits, int kStep, typename Better>
inline void SearchScale(float deviation, float peak, Better&& better) {
  constexpr int kToEachSide = kBits >= 4 ? 8 : 4;
  constexpr float kReach = [] {
    int most = 0;
    for (const int own : Trellis<kBits>::kOwn) {
      for (const int next : Trellis<kBits>::kNext) most = std::max({most, own + next, -own - next});
    }
    return static_cast<float>(most);
  }();
  const int middle = TrellisCode(deviation / Trellis<kBits>::kDeviation),
            first = std::max(middle - kToEachSide, 0);
  const int last = std::min(std::max<int>(middle + kToEachSide, TrellisCode(peak / kReach)), 255);
  int best = first;
  for (int code = first; code <= last; code += kStep) best = better(static_cast<uint8_t>(code)) ? code : best;
  for (const int code : {best - 1, best + 1}) {
    if (code >= 0 && code <= 255) better(static_cast<uint8_t>(code));
  }
}

// How the error of a ring's weight moves the target of a later one: row i, column j < i. The rest is not
// read.
struct RingFeedback {
  const float* rows;
  int64_t ld;
};

// kWidth: lanes of the vectors to search in; the result does not depend on it.
//
// The window of a weight is all bits that it reads. From one weight to the next it moves on by kBits: what
// both windows hold is the state between them.
template <int kBits, int kWidth>
class RingSearch {
 public:
  // The error of a good ring for x, divided by the scale, with weights w, both in the ring's order. A path
  // that need not close, through weights from the opposite on, gives the state between the last weight and
  // the first; the ring is the best that has it.
  float Find(const float* x, const float* w) {
    x_ = x;
    w_ = w;
    return Close<false>();
  }
  // With feedback: the error is the sum over i of w[i] d[i]^2, with d[i] = x[i] + (the sum over j < i of
  // feedback[i][j] e[j]) - point i, where e[j] = own[j] - point j. Every path keeps its own e.
  float Find(const float* x, const float* w, const float* own, const RingFeedback& feedback) {
    x_ = x;
    w_ = w;
    own_ = own;
    feedback_ = feedback;
    return Close<true>();
  }
  void Pack(uint8_t* codes) const {
    uint32_t held = 0;
    for (int s = 0, n = 0; s < kRing; ++s) {
      held |= static_cast<uint32_t>(windows_[s] & (kDropped - 1)) << n;
      for (n += kBits; n >= 8; n -= 8, held >>= 8) *codes++ = static_cast<uint8_t>(held);
    }
  }
  // The point that weight s gets.
  float Point(int s) const { return kPoints.at[windows_[s] & (kDropped - 1)][windows_[s] >> kBits]; }

 private:
  using Code = Trellis<kBits>;
  static constexpr int kStateBits = Code::kAhead + 4 - kBits, kStates = 1 << kStateBits;
  static constexpr int kDropped =
      1 << kBits;  // windows that lead to the same state: their lowest bits differ
  static constexpr int kRuns = kStateBits > kBits ? 1 << (kStateBits - kBits) : 1;
  static constexpr int kLanes = std::min(kWidth, kStates), kVectors = kStates / kLanes;
  static_assert(kRuns == 1 || kRuns % kLanes == 0);
  typedef float Floats __attribute__((vector_size(4 * kLanes)));
  typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

  static_assert(sizeof(Floats) == 4 * kLanes);

  template <typename Vector = Floats>
  static Vector Load(const void* p) {
    Vector v;
    memcpy(&v, p, sizeof(v));
    return v;
  }
  static void Store(Floats v, float* p) { memcpy(p, &v, sizeof(v)); }
  static Floats Fill(float x) { return Floats{} + x; }
  static Ints Count() {
    alignas(64) static constexpr int32_t kCount[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return Load<Ints>(kCount);
  }

  // [dropped bits][next state]
  struct Points {
    alignas(64) float at[kDropped][kStates];
    constexpr Points() : at() {
      for (int d = 0; d < kDropped; ++d) {
        for (int t = 0; t < kStates; ++t) {
          const int window = t << kBits | d;
          at[d][t] = static_cast<float>(Code::kOwn[window & 15] + Code::kNext[window >> Code::kAhead & 15]);
        }
      }
    }
  };
  static constexpr Points kPoints{};
  struct Tables {
    alignas(64) float own[16], next[16];
    constexpr Tables() : own(), next() {
      for (int i = 0; i < 16; ++i) {
        own[i] = Code::kOwn[i];
        next[i] = Code::kNext[i];
      }
    }
  };
  static constexpr Tables kTables{};

  template <bool kFeedback>
  float Close() {
    Run<false>(kRing / 2, -1);  // with feedback it is no better by more than 1 %
    int end = 0;
    for (int s = 1; s < kStates; ++s) end = cost_[s] < cost_[end] ? s : end;
    Trace(kRing / 2, end);
    const int seam = windows_[0] & (kStates - 1);
    Run<kFeedback>(0, seam);
    Trace(0, seam);
    return cost_[seam];
  }

  // Feedback: from weight 0 on only. A state's cost has in its lowest bits which bits the path into it
  // dropped: the least of such numbers, as integers, is found without asking which it was.
  template <bool kFeedback>
  void Run(int first, int start) {
    constexpr float kFar = 1e30f;
    for (int s = 0; s < kStates; ++s) cost_[s] = start < 0 || s == start ? 0 : kFar;
    for (int i = 0; i < kRing; ++i) {
      const int at = (first + i) % kRing;
      if (kFeedback) Aim(at);
      // By dropped bits: where there are several states with the same, they follow each other.
      alignas(64) float before[kDropped][kRuns], target[kDropped][kRuns];
      if constexpr (kRuns == 1) {
        for (int d = 0; d < kDropped; ++d) {
          before[d][0] = cost_[d % kStates];
          if (kFeedback) target[d][0] = target_[d % kStates];
        }
      } else {
        for (int d = 0; d < kDropped; ++d) {
          for (int r = 0; r < kRuns; r += kLanes) {
            const Ints states = (Count() + r) << kBits | d;
            Store(Lookup<kStates>(cost_, states), before[d] + r);
            if (kFeedback) Store(Lookup<kStates>(target_, states), target[d] + r);
          }
        }
      }
      for (int t = 0; t < kStates; t += kLanes) {
        Ints best = Ints{} + std::numeric_limits<int32_t>::max();
#pragma GCC unroll 8
        for (int d = 0; d < kDropped; ++d) {
          const auto by_run = [&](const float(&v)[kDropped][kRuns]) {
            return kRuns == 1 ? Fill(v[d][0]) : Load(v[d] + t % kRuns);
          };
          const Floats error = (kFeedback ? by_run(target) : Fill(x_[at])) - Load(kPoints.at[d] + t);
          const Floats cost = by_run(before) + w_[at] * error * error;
          const Ints marked = ((Ints)cost & ~(kDropped - 1)) | d;
          best = marked < best ? marked : best;
        }
        memcpy(cost_ + t, &best, sizeof(best));
        best &= kDropped - 1;
        memcpy(from_[at] + t, &best, sizeof(best));
      }
      if (kFeedback) Inherit(at);
    }
  }

  // target_[state] = x[at] with what the errors of the state's path add.
  void Aim(int at) {
    const float* row = feedback_.rows + at * feedback_.ld;
    for (int s = 0; s < kStates; s += kLanes) {
      Floats sum = Fill(x_[at]);
      for (int j = 0; j < at; ++j) sum += row[j] * Load(errors_[j] + s);
      Store(sum, target_ + s);
    }
  }

  // The errors of earlier weights follow their paths into the new states.
  void Inherit(int at) {
    Ints windows[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      windows[v] = (Count() + v * kLanes) << kBits | Load<Ints>(from_[at] + v * kLanes);
    }
    for (int j = 0; j < at; ++j) {
      Floats inherited[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        inherited[v] = Lookup<kStates>(errors_[j], windows[v] & (kStates - 1));
      for (int v = 0; v < kVectors; ++v) Store(inherited[v], errors_[j] + v * kLanes);
    }
    for (int v = 0; v < kVectors; ++v) {
      const Floats point = Lookup<16>(kTables.own, windows[v] & 15) +
                           Lookup<16>(kTables.next, windows[v] >> Code::kAhead & 15);
      Store(own_[at] - point, errors_[at] + v * kLanes);
    }
  }

  // Of kSize numbers those at the places.
  template <int kSize>
  static Floats Lookup(const float* from, Ints places) {
    if constexpr (kSize == kLanes) {
      return __builtin_shuffle(Load(from), places);
    } else if constexpr (kSize <= kLanes * kLanes / 2) {  // as many shuffles as that are worth it
      constexpr int kPairs = kSize / kLanes / 2;
      Floats found[kPairs];
#pragma GCC unroll 8
      for (int p = 0; p < kPairs; ++p) {
        found[p] = __builtin_shuffle(Load(from + 2 * p * kLanes), Load(from + (2 * p + 1) * kLanes), places);
      }
#pragma GCC unroll 3
      for (int step = 1; step < kPairs; step *= 2) {
        const Ints second = (places & 2 * kLanes * step) != 0;
#pragma GCC unroll 4
        for (int p = 0; p < kPairs; p += 2 * step) found[p] = second ? found[p + step] : found[p];
      }
      return found[0];
    } else {
      alignas(64) int32_t at[kLanes];
      alignas(64) float found[kLanes];
      memcpy(at, &places, sizeof(at));
      for (int k = 0; k < kLanes; ++k) found[k] = from[at[k]];
      return Load(found);
    }
  }

  // The windows of the path that ends in a state after weight first - 1.
  void Trace(int first, int state) {
    for (int i = kRing - 1; i >= 0; --i) {
      const int at = (first + i) % kRing;
      windows_[at] = state << kBits | from_[at][state];
      state = windows_[at] & (kStates - 1);
    }
  }

  const float *x_ = nullptr, *w_ = nullptr, *own_ = nullptr;
  RingFeedback feedback_{};
  alignas(64) float cost_[kStates], target_[kStates], errors_[kRing][kStates];
  alignas(64) int32_t from_[kRing][kStates];
  int windows_[kRing];
};

}  // namespace thimble

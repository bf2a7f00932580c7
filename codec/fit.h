// The searches that every encoder is made of: the scale (and minimum) with which a run of weights x falls
// nearest to a grid, in squared error weighted by w.
//
// Once every weight has its grid point, the best scale and minimum are a least-squares solution in closed
// form, and so is the error that they leave. A search therefore rounds in a few ways and compares what each
// could reach. All sums are over the residuals of a rounding, not over x: they stay exact where the error is
// a millionth of x.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "codec/blocks.h"
#include "codec/scales.h"

namespace thimble {

// A vector of eight whatever the CPU's are: one order of summation, so the same file on all of them.
constexpr int kLanes = 8;
using Lanes = float __attribute__((vector_size(4 * kLanes)));
using IntLanes = int32_t __attribute__((vector_size(4 * kLanes)));

inline Lanes Load(const float* p) {
  Lanes v;
  memcpy(&v, p, sizeof(v));
  return v;
}

inline Lanes Fill(float x) {
  return Lanes{} + x;
}

inline float Sum(Lanes v) {
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return v[0] + v[1];
}

// The integers kLow..kHigh. A point's code is what the block stores.
template <int kLow, int kHigh>
struct Integers {
  static constexpr int kLowest = kLow, kHighest = kHigh, kStep = 1;

  static Lanes Nearest(Lanes t) {
    constexpr float kShift = 0x1.8p23f;  // where an ulp is 1: the bits count upwards with the number
    constexpr auto kLeast = std::bit_cast<int32_t>(kShift + kLow),
                   kMost = std::bit_cast<int32_t>(kShift + kHigh);
    IntLanes bits = (IntLanes)(t + kShift);
    bits = bits < kLeast ? IntLanes{} + kLeast : bits;
    bits = bits > kMost ? IntLanes{} + kMost : bits;
    return (Lanes)bits - kShift;
  }
  static IntLanes Codes(Lanes points) { return __builtin_convertvector(points, IntLanes) - kLow; }
};

// The odd integers 1..31.
struct OddIntegers {
  static constexpr int kLowest = 1, kHighest = 31, kStep = 2;

  static Lanes Nearest(Lanes t) { return 2.0f * Integers<0, 15>::Nearest(0.5f * (t - 1.0f)) + 1.0f; }
  static IntLanes Codes(Lanes points) { return __builtin_convertvector(points, IntLanes) / 2; }
};

// The values of IQ4_NL and IQ4_XS.
struct Iq4Grid {
  static constexpr int kLowest = kIq4Values[0], kHighest = kIq4Values[15];
  static constexpr int kStep = kIq4Values[15] - kIq4Values[14];  // at the upper end

  static Lanes Nearest(Lanes t) {
    Lanes point = Fill(kLowest);
    for (int i = 1; i < 16; ++i) {
      const Lanes middle = Fill(0.5f * static_cast<float>(kIq4Values[i - 1] + kIq4Values[i]));
      point += t > middle ? Fill(kIq4Values[i] - kIq4Values[i - 1]) : Fill(0);
    }
    return point;
  }
  static IntLanes Codes(Lanes points) {
    IntLanes codes{};
    for (int i = 1; i < 16; ++i) codes -= points >= Fill(kIq4Values[i]);
    return codes;
  }
};

template <typename Grid>
int NearestPoint(float t) {
  return static_cast<int>(Grid::Nearest(Fill(t))[0]);
}

// codes[0..n) = those of the grid points nearest to (x - min) / scale.
template <typename Grid, int n>
void RoundToCodes(const float* x, float scale, float min, uint8_t* codes) {
  const float inverse = Inverse(scale);
  for (int i = 0; i < n; i += kLanes) {
    const IntLanes code = Grid::Codes(Grid::Nearest((Load(x + i) - min) * inverse));
    for (int k = 0; k < kLanes; ++k) codes[i + k] = static_cast<uint8_t>(code[k]);
  }
}

// Sums over a run, with q the grid point nearest to (x - min) / scale and r = x - (scale * q + min).
struct Sums {
  float wq, wqq, wr, wqr;
  float wrr;  // the error
};

struct LaneSums {
  Lanes wq{}, wqq{}, wr{}, wqr{}, wrr{};

  void Add(Lanes w, Lanes q, Lanes r) {
    const Lanes w_q = w * q, w_r = w * r;
    wq += w_q;
    wqq += w_q * q;
    wr += w_r;
    wqr += w_q * r;
    wrr += w_r * r;
  }
  Sums Total() const { return {Sum(wq), Sum(wqq), Sum(wr), Sum(wqr), Sum(wrr)}; }
};

template <typename Grid, int n>
inline Sums RoundAndSum(const float* x, const float* w, float scale, float min = 0) {
  const float inverse = Inverse(scale);
  LaneSums sums;
  for (int i = 0; i < n; i += kLanes) {
    const Lanes above = Load(x + i) - min;
    const Lanes q = Grid::Nearest(above * inverse);
    sums.Add(Load(w + i), q, above - q * scale);
  }
  return sums.Total();
}

template <int n>
float SumRun(const float* x) {
  Lanes sum{};
  for (int i = 0; i < n; i += kLanes) sum += Load(x + i);
  return Sum(sum);
}

template <int n>
float Extreme(const float* x, float sign) {
  Lanes most = sign * Load(x);
  for (int i = kLanes; i < n; i += kLanes) {
    const Lanes v = sign * Load(x + i);
    most = v > most ? v : most;
  }
  float extreme = most[0];
  for (int k = 1; k < kLanes; ++k) extreme = std::max(extreme, most[k]);
  return sign * extreme;
}

template <int n>
float LargestMagnitude(const float* x) {
  const float high = Extreme<n>(x, 1), low = Extreme<n>(x, -1);
  return high >= -low ? high : low;
}

// The sums of RoundAndSum for kLanes scales and minimums at once, one in each lane, with r in units of the
// scale.
template <typename Grid, int n, bool kHasMin>
inline LaneSums ScoreTries(const float* x, const float* w, Lanes scale, Lanes min) {
  const Lanes inverse = (scale >= kNegligible) | (scale <= -kNegligible) ? 1.0f / scale : Fill(0);
  LaneSums sums;
  for (int i = 0; i < n; ++i) {
    const Lanes t = (kHasMin ? x[i] - min : Fill(x[i])) * inverse;
    const Lanes q = Grid::Nearest(t), r = t - q, w_q = w[i] * q, w_r = w[i] * r;
    if (kHasMin) {
      sums.wq += w_q;
      sums.wr += w_r;
    }
    sums.wqq += w_q * q;
    sums.wqr += w_q * r;
    sums.wrr += w_r * r;
  }
  return sums;
}

// Where a search puts the largest weight: from a step short of a grid's end, where all weights fit and only
// fall differently, up to beyond it, where the largest are cut off and the rest have a finer grid. One try at
// each end is the end itself, so that weights that already lie on a grid find it again.
template <typename Grid>
inline Lanes EndsToTry() {
  constexpr float kHigh = Grid::kHighest, kLow = Grid::kLowest, kStep = Grid::kStep;
  if (kLow >= 0 || kLow == -kHigh)
    return kHigh + kStep * Lanes{-1, -0.75f, -0.5f, -0.25f, 0, 0.25f, 0.5f, 0.75f};
  return Lanes{kHigh, kHigh, kHigh, kHigh, kLow, kLow, kLow, kLow} +
         kStep * Lanes{-0.5f, 0, 0.25f, 0.5f, 0.5f, 0, -0.25f, -0.5f};
}

constexpr int kMostRefits = 4;  // of the best try; mostly the second changes nothing

struct ScaleFit {
  float scale;
  float curvature;  // sum of w * q^2: what a change of the scale costs, per square
  float error;
};

// x ~ scale * q. The largest weight goes to either end of the grid, or near it; with more rounds also to
// points ever farther below it.
template <typename Grid, int n, int kRounds = 1>
ScaleFit FitScale(const float* x, const float* w) {
  const float largest = LargestMagnitude<n>(x);
  ScaleFit best = {0, 0, INFINITY};
  if (std::abs(largest) < kNegligible) return best;
  const auto keep = [&best](float scale, float wqq, float wqr, float wrr) {
    if (!(wqq > 0)) return false;
    const float error = wrr - wqr * wqr / wqq;
    if (!(error < best.error)) return false;
    best = {scale + wqr / wqq, wqq, error};
    return true;
  };
  for (int round = 0; round < kRounds; ++round) {
    const Lanes scales = largest / (EndsToTry<Grid>() * (1 - 0.03f * static_cast<float>(round)));
    const LaneSums tries = ScoreTries<Grid, n, false>(x, w, scales, Lanes{});
    for (int k = 0; k < kLanes; ++k) {
      keep(scales[k], tries.wqq[k], scales[k] * tries.wqr[k], scales[k] * scales[k] * tries.wrr[k]);
    }
  }
  for (int i = 0; i < kMostRefits; ++i) {
    const float scale = best.scale;
    const Sums sums = RoundAndSum<Grid, n>(x, w, scale);
    if (!keep(scale, sums.wqq, sums.wqr, sums.wrr)) break;
  }
  return best;
}

struct ScaleMinFit {
  float scale, min;
  float curvature;  // of the scale
  float error;
};

// x ~ scale * q + min with q in 0..kTop and scale >= 0; kNegative: min <= 0.
template <int kTop, int n, bool kNegative>
ScaleMinFit FitScaleMin(const float* x, const float* w) {
  using Grid = Integers<0, kTop>;
  const float ww = SumRun<n>(w);
  const float least = Extreme<n>(x, -1), low = kNegative ? std::min(least, 0.0f) : least;
  const float high = kNegative ? std::max(Extreme<n>(x, 1), 0.0f) : Extreme<n>(x, 1);
  ScaleMinFit best = {0, low, 0, INFINITY};
  if (high - low < kNegligible) return best;
  const auto keep = [&](float scale, float min, const Sums& sums) {
    if (!(sums.wqq > 0)) return false;
    const float spread = ww * sums.wqq - sums.wq * sums.wq;  // of q: 0 if all are equal
    float to_min = 0;
    if (spread > 1e-6f * ww * sums.wqq) to_min = (sums.wr * sums.wqq - sums.wq * sums.wqr) / spread;
    if (kNegative) to_min = std::min(to_min, -min);
    const float to_scale = (sums.wqr - to_min * sums.wq) / sums.wqq;
    const float error = sums.wrr + to_min * (to_min * ww - 2 * sums.wr) - to_scale * to_scale * sums.wqq;
    if (!(error < best.error && scale + to_scale > 0)) return false;
    best = {scale + to_scale, min + to_min, sums.wqq, error};
    return true;
  };
  const Lanes scales = (high - low) / EndsToTry<Grid>();
  const LaneSums tries = ScoreTries<Grid, n, true>(x, w, scales, Fill(low));
  for (int k = 0; k < kLanes; ++k) {
    const float s = scales[k];
    keep(s, low, {tries.wq[k], tries.wqq[k], s * tries.wr[k], s * tries.wqr[k], s * s * tries.wrr[k]});
  }
  for (int i = 0; i < kMostRefits && best.scale > 0; ++i) {
    const float scale = best.scale, min = best.min;
    if (!keep(scale, min, RoundAndSum<Grid, n>(x, w, scale, min))) break;
  }
  return best;
}

}  // namespace thimble

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

inline float Largest(Lanes v) {
  float largest = v[0];
  for (int k = 1; k < kLanes; ++k) largest = std::max(largest, v[k]);
  return largest;
}

inline float Sum(Lanes v) {
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return v[0] + v[1];
}

// The integers kLow..kHigh. A point's code is what the block stores.
template <int kLow, int kHigh>
struct Integers {
  static constexpr int kLowest = kLow, kHighest = kHigh, kStep = 1, kRounds = 1;

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
  static constexpr int kRounds = 3;  // uneven steps: every scale falls differently

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
// V: a number, or a lane for each of several tries.
template <typename V>
struct SumsOf {
  V wq{}, wqq{}, wr{}, wqr{};
  V wrr{};  // the error

  void Add(V w, V q, V r) {
    const V w_q = w * q, w_r = w * r;
    wq += w_q;
    wqq += w_q * q;
    wr += w_r;
    wqr += w_q * r;
    wrr += w_r * r;
  }
};
using Sums = SumsOf<float>;
using LaneSums = SumsOf<Lanes>;

inline Sums Total(const LaneSums& sums) {
  return {Sum(sums.wq), Sum(sums.wqq), Sum(sums.wr), Sum(sums.wqr), Sum(sums.wrr)};
}

template <typename Grid, int n>
inline Sums RoundAndSum(const float* x, const float* w, float scale, float min = 0) {
  const float inverse = Inverse(scale);
  LaneSums sums;
  for (int i = 0; i < n; i += kLanes) {
    const Lanes above = Load(x + i) - min;
    const Lanes q = Grid::Nearest(above * inverse);
    sums.Add(Load(w + i), q, above - q * scale);
  }
  return Total(sums);
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
  return sign * Largest(most);
}

template <int n>
float LargestMagnitude(const float* x) {
  const float high = Extreme<n>(x, 1), low = Extreme<n>(x, -1);
  return high >= -low ? high : low;
}

// The sums of RoundAndSum for kLanes scales and minimums at once, one in each lane.
template <typename Grid, int n>
inline LaneSums ScoreTries(const float* x, const float* w, Lanes scale, Lanes min) {
  const Lanes inverse = scale * scale >= kNegligible * kNegligible ? 1.0f / scale : Fill(0);
  LaneSums sums;
  for (int i = 0; i < n; ++i) {
    const Lanes t = (x[i] - min) * inverse, q = Grid::Nearest(t);
    sums.Add(Fill(w[i]), q, t - q);
  }
  sums.wr *= scale;
  sums.wqr *= scale;
  sums.wrr *= scale * scale;
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

inline int LeastLane(Lanes error) {
  int least = 0;
  for (int k = 1; k < kLanes; ++k) least = error[k] < error[least] ? k : least;
  return least;
}

template <typename V>
struct ScaleFitOf {
  V scale;
  V curvature;  // sum of w * q^2: what a change of the scale costs, per square
  V error;      // infinite where all points are 0
};
using ScaleFit = ScaleFitOf<float>;

// The scale that suits the points that `scale` gave.
template <typename V>
ScaleFitOf<V> SolveScale(V scale, const SumsOf<V>& sums) {
  const V error = sums.wqq > 0 ? sums.wrr - sums.wqr * sums.wqr / sums.wqq : V{} + INFINITY;
  return {scale + sums.wqr / sums.wqq, sums.wqq, error};
}

// x ~ scale * q. The largest weight goes to either end of the grid, or near it; with more rounds also to
// points ever farther below it. What is found is solved for a second time; a third would mostly change
// nothing.
template <typename Grid, int n, int kRounds = Grid::kRounds>
ScaleFit FitScale(const float* x, const float* w) {
  const float largest = LargestMagnitude<n>(x);
  ScaleFit best = {0, 0, INFINITY};
  if (std::abs(largest) < kNegligible) return best;
  for (int round = 0; round < kRounds; ++round) {
    const Lanes scales = largest / (EndsToTry<Grid>() * (1 - 0.03f * static_cast<float>(round)));
    const ScaleFitOf<Lanes> fits = SolveScale(scales, ScoreTries<Grid, n>(x, w, scales, Lanes{}));
    const int k = LeastLane(fits.error);
    if (fits.error[k] < best.error) best = {fits.scale[k], fits.curvature[k], fits.error[k]};
  }
  const ScaleFit again = SolveScale(best.scale, RoundAndSum<Grid, n>(x, w, best.scale));
  return again.error < best.error ? again : best;
}

template <typename V>
struct ScaleMinFitOf {
  V scale, min;
  V curvature;  // of the scale
  V error;      // infinite where the scale would not be above 0
};
using ScaleMinFit = ScaleMinFitOf<float>;

// The scale and minimum that suit the points that `scale` and `min` gave. ww: the sum of w.
template <bool kNegative, typename V>
ScaleMinFitOf<V> SolveScaleMin(V scale, V min, float ww, const SumsOf<V>& sums) {
  const V spread = ww * sums.wqq - sums.wq * sums.wq;  // of q: 0 if all are equal
  V to_min = spread > 1e-6f * ww * sums.wqq ? (sums.wr * sums.wqq - sums.wq * sums.wqr) / spread : V{};
  if (kNegative) to_min = to_min < -min ? to_min : -min;
  const V to_scale = (sums.wqr - to_min * sums.wq) / sums.wqq;
  const V error = sums.wrr + to_min * (to_min * ww - 2 * sums.wr) - to_scale * to_scale * sums.wqq;
  return {scale + to_scale, min + to_min, sums.wqq, scale + to_scale > 0 ? error : V{} + INFINITY};
}

// x ~ scale * q + min with q in 0..kTop and scale >= 0; kNegative: min <= 0.
template <int kTop, int n, bool kNegative>
ScaleMinFit FitScaleMin(const float* x, const float* w) {
  using Grid = Integers<0, kTop>;
  const float ww = SumRun<n>(w);
  const float least = Extreme<n>(x, -1), low = kNegative ? std::min(least, 0.0f) : least;
  const float high = kNegative ? std::max(Extreme<n>(x, 1), 0.0f) : Extreme<n>(x, 1);
  ScaleMinFit best = {0, low, 0, INFINITY};
  if (high - low < kNegligible) return best;
  const Lanes scales = (high - low) / EndsToTry<Grid>(), lows = Fill(low);
  const ScaleMinFitOf<Lanes> fits =
      SolveScaleMin<kNegative>(scales, lows, ww, ScoreTries<Grid, n>(x, w, scales, lows));
  const int k = LeastLane(fits.error);
  if (!(fits.error[k] < INFINITY)) return best;
  best = {fits.scale[k], fits.min[k], fits.curvature[k], fits.error[k]};
  const Sums sums = RoundAndSum<Grid, n>(x, w, best.scale, best.min);
  const ScaleMinFit again = SolveScaleMin<kNegative>(best.scale, best.min, ww, sums);
  return again.error < best.error ? again : best;
}

}  // namespace thimble

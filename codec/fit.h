// The searches that every encoder is made of: the scale (and minimum) with which a run of weights x falls
// nearest to a grid, in squared error weighted by w.
//
// Once every weight has its grid point, the best scale and minimum are a least-squares solution in closed
// form, and so is the error that they leave. A search therefore rounds in a few ways and compares what each
// could reach. All sums are over the residuals of a rounding, not over x: they stay exact where the error is
// a millionth of x.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "codec/blocks.h"

namespace thimble {

// Four lanes, which every CPU has: one order of summation, so the same file on all of them.
using Lanes = float __attribute__((vector_size(16)));

inline Lanes Load(const float* p) {
  Lanes v;
  memcpy(&v, p, sizeof(v));
  return v;
}

inline Lanes Fill(float x) {
  return Lanes{x, x, x, x};
}

inline float Sum(Lanes v) {
  return (v[0] + v[2]) + (v[1] + v[3]);
}

// The integers kLow..kHigh. A point's code is what the block stores.
template <int kLow, int kHigh>
struct Integers {
  static constexpr int kLowest = kLow, kHighest = kHigh, kStep = 1;

  static Lanes Nearest(Lanes t) {
    const Lanes low = Fill(kLow), high = Fill(kHigh), shift = Fill(0x1.8p23f);  // where an ulp is 1
    t = t < low ? low : t;
    t = t > high ? high : t;
    return (t + shift) - shift;
  }
  static uint8_t Code(float point) { return static_cast<uint8_t>(static_cast<int>(point) - kLow); }
};

// The odd integers 1..31.
struct OddIntegers {
  static constexpr int kLowest = 1, kHighest = 31, kStep = 2;

  static Lanes Nearest(Lanes t) { return 2.0f * Integers<0, 15>::Nearest(0.5f * (t - 1.0f)) + 1.0f; }
  static uint8_t Code(float point) { return static_cast<uint8_t>(static_cast<int>(point) / 2); }
};

// The values of IQ4_NL and IQ4_XS.
struct Iq4Grid {
  static constexpr int kLowest = kIq4Values[0], kHighest = kIq4Values[15];

  static Lanes Nearest(Lanes t) {
    Lanes point = Fill(kLowest);
    for (int i = 1; i < 16; ++i) {
      const Lanes middle = Fill(0.5f * static_cast<float>(kIq4Values[i - 1] + kIq4Values[i]));
      point += t > middle ? Fill(kIq4Values[i] - kIq4Values[i - 1]) : Fill(0);
    }
    return point;
  }
  static uint8_t Code(float point) {
    return static_cast<uint8_t>(std::lower_bound(kIq4Values, kIq4Values + 15, static_cast<int>(point)) -
                                kIq4Values);
  }
};

template <typename Grid>
int NearestPoint(float t) {
  return static_cast<int>(Grid::Nearest(Fill(t))[0]);
}

// Below this no F16 scale brings a weight nearer than 0 does.
constexpr float kNegligible = 0x1p-26f;

// 1 / scale, or 0 for a scale that stands for none.
inline float Inverse(float scale) {
  return std::abs(scale) >= kNegligible ? 1 / scale : 0.0f;
}

// F16 bits of x, kept finite.
inline uint16_t ScaleToHalf(float x) {
  return FloatToHalf(std::clamp(x, -65504.0f, 65504.0f));
}

// codes[0..n) = those of the grid points nearest to (x - min) / scale.
template <typename Grid, int n>
void RoundToCodes(const float* x, float scale, float min, uint8_t* codes) {
  for (int i = 0; i < n; i += 4) {
    const Lanes points = Grid::Nearest((Load(x + i) - min) * Inverse(scale));
    for (int k = 0; k < 4; ++k) codes[i + k] = Grid::Code(points[k]);
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
  for (int i = 0; i < n; i += 4) {
    const Lanes above = Load(x + i) - min;
    const Lanes q = Grid::Nearest(above * inverse);
    sums.Add(Load(w + i), q, above - q * scale);
  }
  return sums.Total();
}

template <int n>
float SumRun(const float* x) {
  Lanes sum{};
  for (int i = 0; i < n; i += 4) sum += Load(x + i);
  return Sum(sum);
}

template <int n>
float LargestMagnitude(const float* x) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::abs(x[i]) > std::abs(largest) ? x[i] : largest;
  return largest;
}

// A search puts the largest weight at these multiples of the grid's end: short of it, where all weights fit
// and only fall differently, up to beyond it, where the largest are cut off and the rest have a finer grid.
// One try is the end itself, so that weights that already lie on a grid find it again.
constexpr int kTries = 15;
constexpr int kMostRefits = 4;  // of the best try; mostly the second changes nothing

constexpr float Reach(int i) {
  return 0.8f + 0.025f * static_cast<float>(i);
}

struct ScaleFit {
  float scale;
  float curvature;  // sum of w * q^2: what a change of the scale costs, per square
  float error;
};

// x ~ scale * q. The largest weight goes to either end of the grid, or near it.
template <typename Grid, int n>
ScaleFit FitScale(const float* x, const float* w) {
  const float largest = LargestMagnitude<n>(x);
  ScaleFit best = {0, 0, INFINITY};
  if (std::abs(largest) < kNegligible) return best;
  const auto attempt = [&](float scale) {
    const Sums sums = RoundAndSum<Grid, n>(x, w, scale);
    if (!(sums.wqq > 0)) return false;
    const float error = sums.wrr - sums.wqr * sums.wqr / sums.wqq;
    if (!(error < best.error)) return false;
    best = {scale + sums.wqr / sums.wqq, sums.wqq, error};
    return true;
  };
  for (int i = 0; i < kTries; ++i) {
    if (Grid::kLowest != 0) attempt(largest / (Grid::kLowest * Reach(i)));
    attempt(largest / (Grid::kHighest * Reach(i)));
  }
  for (int i = 0; i < kMostRefits && attempt(best.scale); ++i) {
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
  const float ww = SumRun<n>(w);
  float low = kNegative ? 0 : x[0], high = x[0];
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  ScaleMinFit best = {0, low, 0, INFINITY};
  if (high - low < kNegligible) return best;
  const auto attempt = [&](float scale, float min) {
    const Sums sums = RoundAndSum<Integers<0, kTop>, n>(x, w, scale, min);
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
  for (int i = 0; i < kTries; ++i) attempt((high - low) / (kTop * Reach(i)), low);
  for (int i = 0; i < kMostRefits && best.scale > 0 && attempt(best.scale, best.min); ++i) {
  }
  return best;
}

}  // namespace thimble

// Super-blocks of 256 weights: sub-blocks whose scales (and minimums) are small integers times one in F16.
//
// First every sub-block's own scale, then a common one on whose grid they all fall well, then rounds in which
// each sub-block takes the integers near its own that leave it the least error, and the common one is solved
// for again.
#pragma once

#include <cstdint>

#include "codec/fit.h"
#include "codec/fit_points.h"

namespace thimble {

constexpr int kMostRounds = 2;
constexpr int kScaleRounds = 6;  // few numbers on a fine grid: worth a long search

// x ~ (d * scale) * q. Returns d in F16; scales are codes.
template <typename Grid, typename ScaleGrid, int kSubs, int kRounds = kMostRounds>
uint16_t FitSuperScales(const float* x, const float* w, uint8_t* scales) {
  constexpr int kSize = 256 / kSubs;
  float own[kSubs], curvature[kSubs];
  for (int j = 0; j < kSubs; ++j) {
    const ScaleFit fit = FitScale<Grid, kSize>(x + kSize * j, w + kSize * j);
    own[j] = fit.scale;
    curvature[j] = fit.curvature;
  }
  float d = FitScale<ScaleGrid, kSubs, kScaleRounds>(own, curvature).scale;

  float best_error = INFINITY, best_d = 0;
  int best[kSubs] = {};
  for (int round = 0; round < kRounds && d != 0; ++round) {
    d = HalfToFloat(ScaleToHalf(d));
    float error = 0, numerator = 0, denominator = 0;
    int chosen[kSubs];
    for (int j = 0; j < kSubs; ++j) {
      const int middle = NearestPoint<ScaleGrid>(own[j] * Inverse(d));
      Sums least = {0, 0, 0, 0, INFINITY};
      constexpr int kStep = ScaleGrid::kStep;
      for (int s = std::max(middle - kStep, ScaleGrid::kLowest);
           s <= std::min(middle + kStep, ScaleGrid::kHighest); s += kStep) {
        const Sums sums = RoundAndSum<Grid, kSize>(x + kSize * j, w + kSize * j, d * static_cast<float>(s));
        if (sums.wrr < least.wrr) {
          least = sums;
          chosen[j] = s;
        }
      }
      const float s = static_cast<float>(chosen[j]);
      if (least.wqq > 0) own[j] = d * s + least.wqr / least.wqq;
      error += least.wrr;
      numerator += s * least.wqr;
      denominator += s * s * least.wqq;
    }
    if (!(error < best_error)) break;
    best_error = error;
    best_d = d;
    std::copy_n(chosen, kSubs, best);
    if (!(denominator > 0)) break;
    d += numerator / denominator;
  }

  for (int j = 0; j < kSubs; ++j) {
    scales[j] = static_cast<uint8_t>(ScaleGrid::Codes(Fill(static_cast<float>(best[j])))[0]);
  }
  return ScaleToHalf(best_d);
}

// The same for a grid of single weights, whose codes are q.
template <typename Grid, typename ScaleGrid, int kSubs>
uint16_t FitSuper(const float* x, const float* w, uint8_t* scales, uint8_t* q) {
  constexpr int kSize = 256 / kSubs;
  const uint16_t d = FitSuperScales<Grid, ScaleGrid, kSubs>(x, w, scales);
  for (int j = 0; j < kSubs; ++j) {
    const float scale = HalfToFloat(d) * static_cast<float>(scales[j] + ScaleGrid::kLowest);
    RoundToCodes<Grid, kSize>(x + kSize * j, scale, 0, q + kSize * j);
  }
  return d;
}

// The integers of a sub-block with a minimum, and what they leave.
struct SubMin {
  int scale, min;
  Sums sums;
};

// x ~ (d * scale) * q - (dmin * min): the best of the scales next to `near_scale`, each with the minimum that
// suits it.
template <int kTop, int kScaleTop, int kSize>
SubMin ChooseSubMin(const float* x, const float* w, float ww, float d, float dmin, int near_scale,
                    float near_min) {
  using Grid = Integers<0, kTop>;
  using ScaleGrid = Integers<0, kScaleTop>;
  SubMin best = {0, 0, {0, 0, 0, 0, INFINITY}};
  for (int s = std::max(near_scale - 1, 0); s <= std::min(near_scale + 1, kScaleTop); ++s) {
    const float scale = d * static_cast<float>(s);
    int min = NearestPoint<ScaleGrid>(near_min * Inverse(dmin));
    for (int step = 0; step < 3; ++step) {
      const float held = dmin * static_cast<float>(min);
      const Sums sums = RoundAndSum<Grid, kSize>(x, w, scale, -held);
      if (sums.wrr < best.sums.wrr) best = {s, min, sums};
      const int better = NearestPoint<ScaleGrid>((held - sums.wr / ww) * Inverse(dmin));
      if (better == min) break;
      min = better;
    }
  }
  return best;
}

// d and dmin in F16.
struct SuperMin {
  uint16_t d, dmin;
};

// x ~ (d * scale) * q - (dmin * min).
template <int kTop, int kScaleTop, int kSubs>
SuperMin FitSuperMin(const float* x, const float* w, uint8_t* scales, uint8_t* mins, uint8_t* q) {
  using ScaleGrid = Integers<0, kScaleTop>;
  constexpr int kSize = 256 / kSubs;
  float own_scale[kSubs], own_min[kSubs], curvature[kSubs], ww[kSubs];
  for (int j = 0; j < kSubs; ++j) {
    const ScaleMinFit fit = FitScaleMin<kTop, kSize, true>(x + kSize * j, w + kSize * j);
    own_scale[j] = fit.scale;
    own_min[j] = -fit.min;
    curvature[j] = fit.curvature;
    ww[j] = SumRun<kSize>(w + kSize * j);
  }
  float d = FitScale<ScaleGrid, kSubs, kScaleRounds>(own_scale, curvature).scale;
  float dmin = FitScale<ScaleGrid, kSubs, kScaleRounds>(own_min, ww).scale;

  float best_error = INFINITY, best_d = 0, best_dmin = 0;
  SubMin chosen[kSubs], best[kSubs] = {};
  for (int round = 0; round < kMostRounds; ++round) {
    d = HalfToFloat(ScaleToHalf(d));
    dmin = HalfToFloat(ScaleToHalf(dmin));
    // Normal equations of d and dmin.
    float error = 0, a11 = 0, a12 = 0, a22 = 0, b1 = 0, b2 = 0;
    for (int j = 0; j < kSubs; ++j) {
      chosen[j] = ChooseSubMin<kTop, kScaleTop, kSize>(x + kSize * j, w + kSize * j, ww[j], d, dmin,
                                                       NearestPoint<ScaleGrid>(own_scale[j] * Inverse(d)),
                                                       own_min[j]);
      const Sums& sums = chosen[j].sums;
      const float s = static_cast<float>(chosen[j].scale), m = static_cast<float>(chosen[j].min);
      error += sums.wrr;
      a11 += s * s * sums.wqq;
      a12 -= s * m * sums.wq;
      a22 += m * m * ww[j];
      b1 += s * sums.wqr;
      b2 -= m * sums.wr;
    }
    if (!(error < best_error)) break;
    best_error = error;
    best_d = d;
    best_dmin = dmin;
    std::copy_n(chosen, kSubs, best);
    const float determinant = a11 * a22 - a12 * a12;
    if (determinant > 1e-6f * a11 * a22) {
      d += (b1 * a22 - b2 * a12) / determinant;
      dmin += (b2 * a11 - b1 * a12) / determinant;
    } else if (a11 > 0) {
      d += b1 / a11;
    }
    if (!(d > 0 && dmin >= 0)) break;
  }

  for (int j = 0; j < kSubs; ++j) {
    scales[j] = static_cast<uint8_t>(best[j].scale);
    mins[j] = static_cast<uint8_t>(best[j].min);
    RoundToCodes<Integers<0, kTop>, kSize>(x + kSize * j, best_d * static_cast<float>(best[j].scale),
                                           -best_dmin * static_cast<float>(best[j].min), q + kSize * j);
  }
  return {ScaleToHalf(best_d), ScaleToHalf(best_dmin)};
}

}  // namespace thimble

// Grids of points, each the magnitudes of several weights (codec/iq_grids.h), for the searches of fit.h and
// fit_super.h.
#pragma once

#include <array>
#include <cstdint>

#include "codec/fit.h"
#include "codec/iq_grids.h"

namespace thimble {

// As many as a weight has magnitudes, or half.
using Quad = float __attribute__((vector_size(16)));

inline Quad LoadQuad(const float* p) {
  Quad v;
  memcpy(&v, p, sizeof(v));
  return v;
}

// Single magnitudes, whether or not they make a point together, in units of the scale.
template <typename Type>
struct Magnitudes {
  static constexpr int kCount = Type::kRun == 8 ? 3 : 8;
  static constexpr float Value(int i) { return Type::kUnit * static_cast<float>(Type::kValues[i]); }
  static constexpr float kLowest = Value(0), kHighest = Value(kCount - 1);
  static constexpr float kStep = Value(kCount - 1) - Value(kCount - 2);
  static constexpr int kRounds = 1;

  static Lanes Nearest(Lanes t) {
    Lanes value = Fill(kLowest);
    for (int i = 1; i < kCount; ++i) {
      value += t > Fill(0.5f * (Value(i - 1) + Value(i))) ? Fill(Value(i) - Value(i - 1)) : Fill(0);
    }
    return value;
  }
};

// Points, and the search for the nearest one. A point is two bytes, each a half of its weights. What a half
// costs is added up once for every byte, and the points with the same second half (a stretch: they ascend)
// are looked at only where that half leaves room below the best so far. There is always little room: the
// search starts at the stretch of the magnitudes nearest by themselves.
template <typename Type>
class Points {
 public:
  static constexpr int kRun = Type::kRun;
  using Single = Magnitudes<Type>;

  // The point that leaves x[0..kRun) the least error.
  static int Nearest(const float* x, const float* w, float scale) {
    Costs low, high;
    SumCosts(x, w, scale, &low);
    SumCosts(x + kRun / 2, w + kRun / 2, scale, &high);
    const float low_least = low.at[low.cheapest];
    float least = INFINITY;
    int best = 0;
    const auto look = [&](int stretch) {
      float cost = low.at[kLow[kBegin[stretch]]];
      for (int i = kBegin[stretch] + 1; i < kBegin[stretch + 1]; ++i) cost = std::min(cost, low.at[kLow[i]]);
      cost += high.at[kHigh[stretch]];
      if (cost < least) {
        least = cost;
        best = stretch;
      }
    };
    look(kStretchOf[high.cheapest]);
    for (int row = 0; row < 16; ++row) {  // of stretches whose bytes have the upper four bits in common
      if (kRowBegin[row] == kRowBegin[row + 1]) continue;
      if (!(high.at[16 * row + high.cheapest % 16] + low_least < least)) continue;
      for (int i = kRowBegin[row]; i < kRowBegin[row + 1]; ++i) {
        if (high.at[kHigh[i]] + low_least < least) look(i);
      }
    }
    int nearest = kBegin[best];
    for (int i = nearest + 1; i < kBegin[best + 1]; ++i) {
      if (low.at[kLow[i]] < low.at[kLow[nearest]]) nearest = i;
    }
    return nearest;
  }

  // In units of the scale.
  static void Values(int point, float* values) {
    constexpr int kBits = 16 / kRun;
    for (int i = 0; i < kRun; ++i)
      values[i] = kLevels[Type::kPoints[point] >> kBits * i & ((1 << kBits) - 1)];
  }

 private:
  static constexpr int kPoints = sizeof(Type::kPoints) / sizeof(Type::kPoints[0]);

  // Of half a run, by its byte, and the byte that costs the least. Bytes that no point has are not set.
  struct Costs {
    alignas(16) float at[256];
    int cheapest;
  };

  // Of one weight, by its magnitude's place.
  struct WeightCosts {
    alignas(16) float at[kRun == 8 ? 4 : 8];
    int cheapest = 0;

    WeightCosts(float x, float w, float scale) {
      for (size_t i = 0; i < std::size(at); i += 4) {
        const Quad r = x - LoadQuad(kLevels.data() + i) * scale, cost = w * r * r;
        memcpy(at + i, &cost, sizeof(cost));
      }
      for (int i = 1; i < Single::kCount; ++i) cheapest += at[i] < at[i - 1];  // they fall, then rise
    }
  };

  static void SumCosts(const float* x, const float* w, float scale, Costs* costs) {
    if constexpr (kRun == 8) {
      const WeightCosts c[4] = {
          {x[0], w[0], scale}, {x[1], w[1], scale}, {x[2], w[2], scale}, {x[3], w[3], scale}};
      for (int row = 0; row < 9; ++row) {
        const float rest = c[3].at[row / 3] + c[2].at[row % 3];
        for (int i = 0; i < 3; ++i) {
          const Quad sums = LoadQuad(c[0].at) + (c[1].at[i] + rest);
          memcpy(costs->at + 64 * (row / 3) + 16 * (row % 3) + 4 * i, &sums, sizeof(sums));
        }
      }
      costs->cheapest = c[0].cheapest | c[1].cheapest << 2 | c[2].cheapest << 4 | c[3].cheapest << 6;
    } else {
      const WeightCosts c[2] = {{x[0], w[0], scale}, {x[1], w[1], scale}};
      for (int row = 0; row < 8; ++row) {
        const Quad sums[2] = {LoadQuad(c[0].at) + c[1].at[row], LoadQuad(c[0].at + 4) + c[1].at[row]};
        memcpy(costs->at + 16 * row, sums, sizeof(sums));
      }
      costs->cheapest = c[0].cheapest | c[1].cheapest << 4;
    }
  }

  alignas(16) static constexpr std::array<float, 8> kLevels = [] {
    std::array<float, 8> levels = {};
    for (int i = 0; i < Single::kCount; ++i) levels[i] = Single::Value(i);
    return levels;
  }();
  static constexpr std::array<uint8_t, kPoints> kLow = [] {
    std::array<uint8_t, kPoints> low = {};
    for (int i = 0; i < kPoints; ++i) low[i] = static_cast<uint8_t>(Type::kPoints[i]);
    return low;
  }();
  static constexpr int kStretches = [] {
    int n = 1;
    for (int i = 1; i < kPoints; ++i) n += Type::kPoints[i] >> 8 != Type::kPoints[i - 1] >> 8;
    return n;
  }();
  static constexpr std::array<uint16_t, kStretches + 1> kBegin = [] {
    std::array<uint16_t, kStretches + 1> begin = {};
    int n = 0;
    for (int i = 1; i < kPoints; ++i) {
      if (Type::kPoints[i] >> 8 != Type::kPoints[i - 1] >> 8) begin[++n] = static_cast<uint16_t>(i);
    }
    begin[n + 1] = kPoints;
    return begin;
  }();
  static constexpr std::array<uint8_t, kStretches> kHigh = [] {
    std::array<uint8_t, kStretches> high = {};
    for (int i = 0; i < kStretches; ++i) high[i] = static_cast<uint8_t>(Type::kPoints[kBegin[i]] >> 8);
    return high;
  }();
  static constexpr std::array<uint8_t, 17> kRowBegin = [] {
    std::array<uint8_t, 17> begin = {};
    for (const uint8_t high : kHigh) {
      for (int row = high / 16 + 1; row <= 16; ++row) ++begin[row];
    }
    return begin;
  }();
  // Of a high half that no point has: the one before.
  static constexpr std::array<uint8_t, 256> kStretchOf = [] {
    std::array<uint8_t, 256> of = {};
    int at = 0;
    for (int i = 0; i < 256; ++i) {
      if (at + 1 < kStretches && kHigh[at + 1] <= i) ++at;
      of[i] = static_cast<uint8_t>(at);
    }
    return of;
  }();
};

template <typename Grid, int n>
requires(Grid::kRun > 1) Sums RoundAndSum(const float* x, const float* w, float scale, float /*min*/ = 0) {
  alignas(16) float points[n];
  for (int i = 0; i < n; i += Grid::kRun) Grid::Values(Grid::Nearest(x + i, w + i, scale), points + i);
  LaneSums sums;
  for (int i = 0; i < n; i += kLanes) {
    const Lanes q = Load(points + i);
    sums.Add(Load(w + i), q, Load(x + i) - q * scale);
  }
  return Total(sums);
}

// As if magnitudes need not make points: near the scale that suits points. But if all are alike they do so at
// any of the magnitudes, while only the point of the lowest is in every grid.
template <typename Grid, int n, int kRounds = Grid::Single::kRounds>
requires(Grid::kRun > 1) ScaleFit FitScale(const float* x, const float* w) {
  const float largest = LargestMagnitude<n>(x);
  float smallest = largest;
  for (int i = 0; i < n; ++i) smallest = std::min(smallest, x[i]);
  ScaleFit fit = FitScale<typename Grid::Single, n, kRounds>(x, w);
  if (smallest > 0.7f * largest) {
    const float scale = 0.5f * (smallest + largest) / Grid::Single::kLowest;
    const Sums sums = RoundAndSum<Grid, n>(x, w, scale);
    const float error = sums.wrr - sums.wqr * sums.wqr / sums.wqq;
    if (error < RoundAndSum<Grid, n>(x, w, fit.scale).wrr)
      fit = {scale + sums.wqr / sums.wqq, sums.wqq, error};
  }
  return fit;
}

}  // namespace thimble

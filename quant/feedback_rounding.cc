#include "quant/feedback_rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/half.h"
#include "codec/blocks.h"
#include "codec/codec.h"
#include "codec/pack.h"
#include "codec/scales.h"
#include "quant/ring_rounding.h"
#include "quant/squared_sums.h"

namespace thimble {
namespace {

constexpr int kRows = kRoundRows;
constexpr int kMaxRun = 32;  // columns that share a scale
constexpr int kRefits = 3;

// One number per row.
struct alignas(64) PerRow {
  float v[kRows] = {};
  float& operator[](int i) { return v[i]; }
  float operator[](int i) const { return v[i]; }
};

constexpr std::array<float, 16> kIq4Points = [] {
  std::array<float, 16> points = {};
  std::copy_n(kIq4Values, points.size(), points.begin());
  return points;
}();

// How a type lays its points: runs of `run` columns share a scale (and a minimum); in super-blocks those are
// integers times one in F16.
struct Layout {
  RoundGrid grid;
  int run;
  bool has_min = false;
  int scale_low = 0, scale_high = 0;  // of the integers; 0, 0: the run's scale is in F16 itself
  bool super() const { return scale_high != 0; }
};

std::optional<Layout> LayoutOf(WeightType type) {
  using enum WeightType;
  constexpr RoundGrid kIq4 = {kIq4Values[0], kIq4Values[15], kIq4Points.data(), kIq4Points.size()};
  switch (type) {
    case kQ4_0:
      return Layout{{-8, 7, nullptr, 0}, 32};
    case kQ5_0:
      return Layout{{-16, 15, nullptr, 0}, 32};
    case kQ8_0:
      return Layout{{-127, 127, nullptr, 0}, 32};
    case kIQ4_NL:
      return Layout{kIq4, 32};
    case kQ4_1:
      return Layout{{0, 15, nullptr, 0}, 32, true};
    case kQ5_1:
      return Layout{{0, 31, nullptr, 0}, 32, true};
    case kQ2_K:
      return Layout{{0, 3, nullptr, 0}, 16, true, 0, 15};
    case kQ3_K:
      return Layout{{-4, 3, nullptr, 0}, 16, false, -32, 31};
    case kQ4_K:
      return Layout{{0, 15, nullptr, 0}, 32, true, 0, 63};
    case kQ5_K:
      return Layout{{0, 31, nullptr, 0}, 32, true, 0, 63};
    case kQ6_K:
      return Layout{{-32, 31, nullptr, 0}, 16, false, -128, 127};
    case kIQ4_XS:
      return Layout{kIq4, 32, false, -32, 31};
    default:
      return std::nullopt;
  }
}

uint8_t CodeOf(const RoundGrid& grid, float point) {
  if (grid.n_values == 0) return static_cast<uint8_t>(static_cast<int>(point - grid.lowest));
  return static_cast<uint8_t>(std::lower_bound(grid.values, grid.values + grid.n_values, point) -
                              grid.values);
}

// The points, errors and costs that a scale and minimum per row give a run of columns, and the search for the
// best.
class Run {
 public:
  Run(const KernelTable& kernels, const RoundGrid& grid, int n) : kernels_(kernels), grid_(grid), n_(n) {}

  // The columns to round: x, w [n, kRows].
  void Set(const float* x, const float* w, const RoundFactor& factor) {
    x_ = x;
    w_ = w;
    factor_ = factor;
    kernels_.whiten_block(n_, x, w, &factor, target_);
    best_cost_ = Filled(INFINITY);
    best_scale_ = best_min_ = {};
  }
  // Keeps, row by row, what costs less than the best so far. True if any row got better.
  bool Try(const PerRow& scale, const PerRow& min) {
    PerRow cost;
    Round(scale, min, cost);
    bool better = false;
    for (int r = 0; r < kRows; ++r) {
      if (!(cost[r] < best_cost_[r])) continue;
      better = true;
      best_cost_[r] = cost[r];
      best_scale_[r] = scale[r];
      best_min_[r] = min[r];
    }
    return better;
  }
  void Round(const PerRow& scale, const PerRow& min, PerRow& cost) {
    kernels_.round_block(&grid_, n_, x_, w_, &factor_, scale.v, min.v, points_, errors_, cost.v);
  }
  void SearchScale();
  void SearchScaleAndMin(bool negative);
  // The minimum that suits the points of the last rounding with these scales.
  PerRow BestMin(const PerRow& scale);

  const PerRow& scale() const { return best_scale_; }
  const PerRow& min() const { return best_min_; }
  const PerRow& curvature() const { return curvature_; }
  const PerRow& min_curvature() const { return min_curvature_; }
  const float* points() const { return points_; }
  const float* errors() const { return errors_; }

 private:
  static PerRow Filled(float x) {
    PerRow rows;
    std::fill_n(rows.v, kRows, x);
    return rows;
  }
  // sums[r] = sum over columns of a * b.
  PerRow Product(const float* a, const float* b) const {
    PerRow sums;
    for (int i = 0; i < n_; ++i) {
      for (int r = 0; r < kRows; ++r) sums[r] += a[i * kRows + r] * b[i * kRows + r];
    }
    return sums;
  }
  void WhitenOnes() {
    float ones[kMaxRun * kRows];
    std::fill_n(ones, n_ * kRows, 1.0f);
    kernels_.whiten_block(n_, ones, ones, &factor_, ones_);
  }

  const KernelTable& kernels_;
  const RoundGrid grid_;
  const int n_;
  const float *x_ = nullptr, *w_ = nullptr;
  RoundFactor factor_ = {};
  PerRow best_cost_, best_scale_, best_min_, curvature_, min_curvature_;
  // In the coordinates where the cost is a sum of squares: what is to be reached, the points, and the
  // number 1.
  alignas(64) float target_[kMaxRun * kRows], whitened_[kMaxRun * kRows], ones_[kMaxRun * kRows];
  alignas(64) float points_[kMaxRun * kRows], errors_[kMaxRun * kRows];
};

// The largest weight goes to these multiples of the grid's ends: short of them, where all weights fit, up to
// beyond, where the largest are cut off and the rest have a finer grid.
constexpr int kTries = 15;
constexpr float Reach(int i) {
  return 0.8f + 0.025f * static_cast<float>(i);
}

void Run::SearchScale() {
  PerRow largest;
  for (int i = 0; i < n_; ++i) {
    for (int r = 0; r < kRows; ++r) {
      const float x = x_[i * kRows + r];
      largest[r] = std::abs(x) > std::abs(largest[r]) ? x : largest[r];
    }
  }
  const PerRow zero;
  Try(zero, zero);
  const bool fine = grid_.highest - grid_.lowest > 100 && grid_.n_values == 0;
  const auto try_end = [&](float end) {
    PerRow scale;
    for (int i = fine ? 7 : 0; i < (fine ? 10 : kTries); ++i) {
      for (int r = 0; r < kRows; ++r) scale[r] = largest[r] / (end * Reach(i));
      Try(scale, zero);
    }
  };
  try_end(grid_.highest);
  if (grid_.lowest != -grid_.highest) try_end(grid_.lowest);
  PerRow cost;
  for (int refit = 0;; ++refit) {
    Round(best_scale_, zero, cost);
    kernels_.whiten_block(n_, points_, points_, &factor_, whitened_);
    curvature_ = Product(whitened_, whitened_);
    if (refit == kRefits) break;
    const PerRow to_target = Product(whitened_, target_);
    PerRow scale;
    for (int r = 0; r < kRows; ++r) scale[r] = curvature_[r] > 0 ? to_target[r] / curvature_[r] : 0;
    if (!Try(scale, zero)) break;
  }
}

void Run::SearchScaleAndMin(bool negative) {
  WhitenOnes();
  PerRow low = Filled(negative ? 0 : INFINITY), high = Filled(-INFINITY);
  for (int i = 0; i < n_; ++i) {
    for (int r = 0; r < kRows; ++r) {
      low[r] = std::min(low[r], x_[i * kRows + r]);
      high[r] = std::max(high[r], x_[i * kRows + r]);
    }
  }
  const float top = grid_.highest;
  PerRow scale, min;
  for (int r = 0; r < kRows; ++r) min[r] = negative ? std::min(low[r], 0.0f) : low[r];
  Try(scale, min);
  for (int i = 0; i < kTries; ++i) {
    for (int r = 0; r < kRows; ++r) {
      const float range = std::max(high[r] - low[r], 0.0f);
      scale[r] = range / (top * Reach(i));
      // Both ends are cut off, or stay away, alike.
      min[r] = low[r] + 0.5f * (range - scale[r] * top);
      if (negative) min[r] = std::min(min[r], 0.0f);
    }
    Try(scale, min);
  }
  const PerRow ww = Product(ones_, ones_), target_ones = Product(target_, ones_);
  min_curvature_ = ww;
  PerRow cost;
  for (int refit = 0;; ++refit) {
    Round(best_scale_, best_min_, cost);
    kernels_.whiten_block(n_, points_, points_, &factor_, whitened_);
    curvature_ = Product(whitened_, whitened_);
    if (refit == kRefits) break;
    const PerRow to_target = Product(whitened_, target_), to_ones = Product(whitened_, ones_);
    for (int r = 0; r < kRows; ++r) {
      const float spread = ww[r] * curvature_[r] - to_ones[r] * to_ones[r];
      min[r] = spread > 1e-6f * ww[r] * curvature_[r]
                   ? (target_ones[r] * curvature_[r] - to_target[r] * to_ones[r]) / spread
                   : best_min_[r];
      if (negative) min[r] = std::min(min[r], 0.0f);
      scale[r] = curvature_[r] > 0 ? std::max(0.0f, (to_target[r] - min[r] * to_ones[r]) / curvature_[r]) : 0;
    }
    if (!Try(scale, min)) break;
  }
}

PerRow Run::BestMin(const PerRow& scale) {
  kernels_.whiten_block(n_, points_, points_, &factor_, whitened_);
  const PerRow ww = Product(ones_, ones_), target_ones = Product(target_, ones_),
               to_ones = Product(whitened_, ones_);
  PerRow min;
  for (int r = 0; r < kRows; ++r) min[r] = ww[r] > 0 ? (target_ones[r] - scale[r] * to_ones[r]) / ww[r] : 0;
  return min;
}

// kRows rows on their way through the columns, stored [columns, kRows].
class Tile {
 public:
  Tile(const KernelTable& kernels, WeightType type, const HessianFactor& factor)
      : kernels_(kernels), type_(type), factor_(factor), n_(factor.n) {
    w_.resize(static_cast<size_t>(n_ * kRows));
    errors_.resize(w_.size());
  }

  void Round(int64_t rows, const float* w, int64_t ldw, uint8_t* out, double* costs);
  void RoundAlone(int64_t rows, const float* w, int64_t ldw, const float* importance, uint8_t* out,
                  double* costs);

 private:
  // x [columns, kRows] = the weights with what errors before `known` add.
  void Feed(int64_t begin, int64_t columns, int64_t known, float* x) const {
    std::copy_n(w_.data() + begin * kRows, columns * kRows, x);
    kernels_.gemm_nn(columns, kRows, known, factor_.feedback.data() + begin * n_, n_, errors_.data(), kRows,
                     x, kRows, true);
  }
  float* ErrorsAt(int64_t column) { return errors_.data() + column * kRows; }
  void AddCost(const PerRow& cost) {
    for (int r = 0; r < kRows; ++r) cost_[r] += cost[r];
  }
  void Keep(const Run& run, int64_t begin, int n, int at) {
    std::copy_n(run.errors(), n * kRows, ErrorsAt(begin));
    for (int i = 0; i < n; ++i) {
      for (int r = 0; r < kRows; ++r) {
        codes_[static_cast<size_t>(r)].q[at + i] = CodeOf(grid_, run.points()[i * kRows + r]);
      }
    }
  }
  void RoundRun(const Layout& layout, int64_t begin);
  void RoundSuper(const Layout& layout, int64_t begin);
  void RoundRings(int64_t rows, int64_t begin, uint8_t* out);
  void ChooseScale(const Layout& layout, int j, Run& run, const PerRow& own);
  void ChooseScaleAndMin(const Layout& layout, int j, Run& run, const PerRow& own, const PerRow& own_min);
  void Write(int64_t block, int64_t rows, uint8_t* out);

  const KernelTable& kernels_;
  const WeightType type_;
  const HessianFactor& factor_;
  const int64_t n_;
  RoundGrid grid_ = {};
  std::vector<float> w_, errors_;
  BlockCodes codes_[kRows];
  PerRow d_, dmin_;  // of a super-block, as F16 holds them
  double cost_[kRows] = {};
};

void Tile::RoundRun(const Layout& layout, int64_t begin) {
  const int n = layout.run;
  alignas(64) float x[kMaxRun * kRows];
  Feed(begin, n, begin, x);
  Run run(kernels_, layout.grid, n);
  run.Set(x, w_.data() + begin * kRows, factor_.Columns(begin));
  if (layout.has_min) {
    run.SearchScaleAndMin(false);
  } else {
    run.SearchScale();
  }
  PerRow scale, min, cost;
  for (int r = 0; r < kRows; ++r) {
    BlockCodes& codes = codes_[r];
    codes.d = ScaleToHalf(run.scale()[r]);
    codes.m = ScaleToHalf(run.min()[r]);
    scale[r] = HalfToFloat(codes.d);
    min[r] = HalfToFloat(codes.m);
  }
  run.Round(scale, min, cost);
  Keep(run, begin, n, 0);
  AddCost(cost);
}

// Sub-block j's integer next to what its own search gave.
void Tile::ChooseScale(const Layout& layout, int j, Run& run, const PerRow& own) {
  const PerRow zero;
  PerRow scale;
  for (int step = -1; step <= 1; ++step) {
    for (int r = 0; r < kRows; ++r) {
      const float s = std::nearbyint(own[r] * Inverse(d_[r])) + static_cast<float>(step);
      scale[r] =
          d_[r] * std::clamp(s, static_cast<float>(layout.scale_low), static_cast<float>(layout.scale_high));
    }
    run.Try(scale, zero);
  }
  PerRow cost;
  run.Round(run.scale(), zero, cost);
  AddCost(cost);
  for (int r = 0; r < kRows; ++r) {
    codes_[r].scales[j] = static_cast<uint8_t>(
        static_cast<int>(std::nearbyint(run.scale()[r] * Inverse(d_[r]))) - layout.scale_low);
  }
}

void Tile::ChooseScaleAndMin(const Layout& layout, int j, Run& run, const PerRow& own,
                             const PerRow& own_min) {
  const float top = static_cast<float>(layout.scale_high);
  const auto on_grid = [top](float x, float d, float step) {
    return d * std::clamp(std::nearbyint(x * Inverse(d)) + step, 0.0f, top);
  };
  PerRow scale, min, cost;
  for (int step = -1; step <= 1; ++step) {
    for (int r = 0; r < kRows; ++r) {
      scale[r] = on_grid(own[r], d_[r], static_cast<float>(step));
      min[r] = -on_grid(-own_min[r], dmin_[r], 0);
    }
    for (int refit = 0; refit < 2; ++refit) {
      run.Try(scale, min);
      const PerRow better = run.BestMin(scale);
      for (int r = 0; r < kRows; ++r) min[r] = -on_grid(-better[r], dmin_[r], 0);
    }
    run.Try(scale, min);
  }
  run.Round(run.scale(), run.min(), cost);
  AddCost(cost);
  for (int r = 0; r < kRows; ++r) {
    codes_[r].scales[j] = static_cast<uint8_t>(std::nearbyint(run.scale()[r] * Inverse(d_[r])));
    codes_[r].mins[j] = static_cast<uint8_t>(std::nearbyint(-run.min()[r] * Inverse(dmin_[r])));
  }
}

// Every sub-block's own scale first, as if the super-block had no errors yet; then a common one on whose grid
// they fall well; then each sub-block in order, with feedback.
void Tile::RoundSuper(const Layout& layout, int64_t begin) {
  const int n = layout.run, subs = 256 / n;
  std::vector<float> x(256 * kRows);
  Feed(begin, 256, begin, x.data());
  PerRow own[16], own_min[16], curvature[16], min_curvature[16];
  Run run(kernels_, layout.grid, n);
  for (int j = 0; j < subs; ++j) {
    const int64_t at = begin + j * n;
    run.Set(x.data() + j * n * kRows, w_.data() + at * kRows, factor_.Columns(at));
    if (layout.has_min) {
      run.SearchScaleAndMin(true);
    } else {
      run.SearchScale();
    }
    own[j] = run.scale();
    own_min[j] = run.min();
    curvature[j] = run.curvature();
    min_curvature[j] = run.min_curvature();
  }
  for (int r = 0; r < kRows; ++r) {
    float values[16] = {}, weights[16] = {}, mins[16] = {}, min_weights[16] = {};
    for (int j = 0; j < subs; ++j) {
      values[j] = own[j][r];
      weights[j] = curvature[j][r];
      mins[j] = -own_min[j][r];
      min_weights[j] = min_curvature[j][r];
    }
    const float d = FitCommonScale(layout.scale_low, layout.scale_high, subs, values, weights);
    const float dmin =
        layout.has_min ? FitCommonScale(layout.scale_low, layout.scale_high, subs, mins, min_weights) : 0;
    codes_[r].d = ScaleToHalf(d);
    codes_[r].m = ScaleToHalf(dmin);
    d_[r] = HalfToFloat(codes_[r].d);
    dmin_[r] = HalfToFloat(codes_[r].m);
  }
  for (int j = 0; j < subs; ++j) {
    const int64_t at = begin + j * n;
    Feed(at, n, at, x.data());
    run.Set(x.data(), w_.data() + at * kRows, factor_.Columns(at));
    if (layout.has_min) {
      ChooseScaleAndMin(layout, j, run, own[j], own_min[j]);
    } else {
      ChooseScale(layout, j, run, own[j]);
    }
    Keep(run, at, n, j * n);
  }
}

void Tile::RoundRings(int64_t rows, int64_t begin, uint8_t* out) {
  const int n = static_cast<int>(std::min<int64_t>(kRingBlock, n_ - begin));
  std::vector<float> x(static_cast<size_t>(n * kRows));
  Feed(begin, n, begin, x.data());
  for (int64_t r = 0; r < rows; ++r) {
    float own[kRingBlock], target[kRingBlock], errors[kRingBlock];
    for (int i = 0; i < n; ++i) {
      own[i] = w_[static_cast<size_t>((begin + i) * kRows + r)];
      target[i] = x[static_cast<size_t>(i * kRows + r)];
    }
    uint8_t* to = out + static_cast<size_t>(r) * RowBytes(type_, n_) + RowBytes(type_, begin);
    cost_[r] += RoundRingBlock(type_, n, own, target, factor_.Columns(begin), to, errors);
    for (int i = 0; i < n; ++i) ErrorsAt(begin + i)[r] = errors[i];
  }
}

void Tile::RoundAlone(int64_t rows, const float* w, int64_t ldw, const float* importance, uint8_t* out,
                      double* costs) {
  std::vector<float> value(static_cast<size_t>(n_)), whitened(errors_.size());
  for (int64_t r = 0; r < rows; ++r) {
    uint8_t* row = out + static_cast<size_t>(r) * RowBytes(type_, n_);
    EncodeRow(type_, w + r * ldw, row, n_, importance);
    DecodeRow(type_, row, value.data(), n_);
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t column = ColumnAt(factor_.order, i);
      errors_[static_cast<size_t>(i * kRows + r)] = w[r * ldw + column] - value[static_cast<size_t>(column)];
    }
  }
  const RoundFactor columns = factor_.Columns(0);
  kernels_.whiten_block(static_cast<int>(n_), errors_.data(), errors_.data(), &columns, whitened.data());
  for (size_t i = 0; i < whitened.size(); ++i) {
    cost_[i % kRows] += static_cast<double>(whitened[i]) * whitened[i];
  }
  std::copy_n(cost_, rows, costs);
}

void Tile::Write(int64_t block, int64_t rows, uint8_t* out) {
  const size_t row_bytes = RowBytes(type_, n_), block_bytes = Info(type_).block_bytes;
  for (int64_t r = 0; r < rows; ++r) {
    uint8_t* to = out + static_cast<size_t>(r) * row_bytes + static_cast<size_t>(block) * block_bytes;
    VisitBlock(type_, [&]<typename Block>(const Block*) {
      if constexpr (requires(Block packed) { PackBlock(codes_[r], &packed); }) {
        Block packed;
        PackBlock(codes_[r], &packed);
        std::memcpy(to, &packed, sizeof(packed));
      }
    });
  }
}

void Tile::Round(int64_t rows, const float* w, int64_t ldw, uint8_t* out, double* costs) {
  const std::optional<Layout> layout = LayoutOf(type_);
  const bool rings = OrderOf(type_) == ColumnOrder::kRings;
  if (!layout && !rings) {
    // Points that are chosen in groups cannot make up for each other one by one, and feeding whole blocks'
    // errors on does more harm than good.
    return RoundAlone(rows, w, ldw, factor_.importance.data(), out, costs);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n_; ++i) {
      w_[static_cast<size_t>(i * kRows + r)] = w[r * ldw + ColumnAt(factor_.order, i)];
    }
  }
  const int64_t size = Info(type_).block_size;
  for (int64_t begin = 0; begin < n_; begin += size) {
    if (rings) {
      RoundRings(rows, begin, out);
      continue;
    }
    grid_ = layout->grid;
    if (layout->super()) {
      RoundSuper(*layout, begin);
    } else {
      RoundRun(*layout, begin);
    }
    Write(begin / size, rows, out);
  }
  std::copy_n(cost_, rows, costs);
}

// Squared relative errors of what lies on a grid: F16, to which a dequantized model may have been rounded,
// leaves 1e-7. Of a row; a block of it may be further off.
constexpr double kOnGrid = 1e-6, kBlockOnGrid = 1e-4;

// Whether the n weights, rounded alone, stay what they are.
bool StaysOnGrid(const KernelTable& kernels, WeightType type, const float* w, int64_t n, double limit,
                 uint8_t* out, float* value) {
  EncodeRow(type, w, out, n, nullptr);
  DecodeRow(type, out, value, n);
  const SquaredSums sums = MeasureSquaredSums(kernels, w, value, n);
  return sums.error <= limit * sums.sum;
}

}  // namespace

void RoundWithFeedback(const KernelTable& kernels, WeightType type, int64_t rows, const float* w, int64_t ldw,
                       const HessianFactor& factor, uint8_t* out, double* costs) {
  CHECK(rows > 0 && rows <= kRows && RowFits(type, factor.n) && factor.order == OrderOf(type));
  Tile(kernels, type, factor).Round(rows, w, ldw, out, costs);
  const size_t bytes = RowBytes(type, factor.n);
  std::vector<uint8_t> alone(bytes);
  std::vector<float> value(static_cast<size_t>(factor.n));
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = w + r * ldw;
    if (!StaysOnGrid(kernels, type, row, Info(type).block_size, kBlockOnGrid, alone.data(), value.data()) ||
        !StaysOnGrid(kernels, type, row, factor.n, kOnGrid, alone.data(), value.data())) {
      continue;
    }
    std::memcpy(out + static_cast<size_t>(r) * bytes, alone.data(), bytes);
    costs[r] = 0;
  }
}

void RoundAlone(const KernelTable& kernels, WeightType type, int64_t rows, const float* w, int64_t ldw,
                const HessianFactor& factor, const float* importance, uint8_t* out, double* costs) {
  CHECK(rows > 0 && rows <= kRows && RowFits(type, factor.n));
  Tile(kernels, type, factor).RoundAlone(rows, w, ldw, importance, out, costs);
}

}  // namespace thimble

#include "bench/code_trials.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "base/half.h"

namespace thimble {
namespace {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BEST_TARGET __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BEST_TARGET
#endif

double NormalQuantile(double u) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < u ? low : high) = middle;
  }
  return low;
}

// ---- Scalar codes

BEST_TARGET void RoundToPoints(const float* points, int n_points, int n, const Lanes* x, Lanes* y) {
  for (int i = 0; i < n; ++i) {
    Vec best = Vec{} + 1e30f, value = {};
    for (int p = 0; p < n_points; ++p) {
      const Vec d = x[i].v - points[p], square = d * d;
      value = square < best ? Vec{} + points[p] : value;
      best = square < best ? square : best;
    }
    y[i].v = value;
  }
}

class Scalar : public Code {
 public:
  explicit Scalar(std::vector<float> points) : points_(std::move(points)) {}
  void Round(int n, const Lanes* x, const Lanes*, Lanes* y) const override {
    RoundToPoints(points_.data(), static_cast<int>(points_.size()), n, x, y);
  }

 private:
  std::vector<float> points_;
};

std::vector<float> LloydPoints(int bits, const std::vector<double>& density) {
  std::vector<float> points(size_t{1} << bits);
  for (size_t i = 0; i < points.size(); ++i) {
    points[i] = static_cast<float>(
        NormalQuantile((static_cast<double>(i) + 0.5) / static_cast<double>(points.size())));
  }
  for (int iteration = 0; iteration < 300; ++iteration) {
    std::vector<double> sums(points.size()), weights(points.size());
    for (size_t i = 0, p = 0; i < density.size(); ++i) {
      while (p + 1 < points.size() && BinCentre(i) > 0.5 * (points[p] + points[p + 1])) ++p;
      sums[p] += density[i] * BinCentre(i);
      weights[p] += density[i];
    }
    for (size_t p = 0; p < points.size(); ++p) {
      if (weights[p] > 0) points[p] = static_cast<float>(sums[p] / weights[p]);
    }
  }
  return points;
}
std::vector<float> UniformPoints(int bits) {
  constexpr float kSteps[] = {0, 0, 0.9957f, 0.5860f, 0.3352f};  // of least error for a Gaussian (Max 1960)
  std::vector<float> points(size_t{1} << bits);
  for (size_t i = 0; i < points.size(); ++i) {
    points[i] = (static_cast<float>(i) - 0.5f * static_cast<float>(points.size() - 1)) * kSteps[bits];
  }
  return points;
}

// ---- QuIP#'s lattice codes

struct E8Tables {
  // The absolute values of the 256 patterns: 0, 1, 2 for 1/2, 3/2, 5/2.
  std::array<std::array<uint8_t, 8>, 256> level = {};
  std::array<bool, 256> odd = {};  // whether an odd number of signs must be negative
  std::array<std::array<float, 8>, 256> one_bit = {};
};

const E8Tables& E8() {
  // The 29 patterns of squared norm 12 in use: where their three 1/2 stand; 3/2 elsewhere.
  static constexpr uint8_t kNorm12[29][3] = {{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}, {3, 6, 7}, {3, 5, 7},
                                             {3, 4, 7}, {3, 5, 6}, {3, 4, 6}, {3, 4, 5}, {2, 6, 7}, {2, 5, 7},
                                             {2, 4, 7}, {2, 5, 6}, {2, 4, 6}, {2, 4, 5}, {1, 6, 7}, {1, 5, 7},
                                             {1, 4, 7}, {1, 5, 6}, {1, 4, 6}, {0, 4, 5}, {0, 6, 7}, {0, 5, 7},
                                             {0, 4, 7}, {0, 5, 6}, {0, 4, 6}, {0, 1, 4}, {2, 3, 7}};
  static const E8Tables kTables = [] {
    E8Tables t;
    size_t n = 0;
    for (int c = 0; c < 6561; ++c) {  // all of squared norm 10 at most: 2, and 2 for a 3/2, 6 for a 5/2
      std::array<uint8_t, 8> level;
      int rest = c, norm = 2;
      for (uint8_t& l : level) {
        l = static_cast<uint8_t>(rest % 3);
        rest /= 3;
        norm += l == 0 ? 0 : l == 1 ? 2 : 6;
      }
      if (norm <= 10) t.level[n++] = level;
    }
    for (const auto& halves : kNorm12) {
      t.level[n].fill(1);
      for (const uint8_t i : halves) t.level[n][i] = 0;
      ++n;
    }
    for (size_t p = 0; p < n; ++p) {  // the sum is to be even
      int sum = 4;
      for (const uint8_t l : t.level[p]) sum += l;
      t.odd[p] = sum % 2 != 0;
    }
    n = 0;  // E8 at one bit: 0, the 240 shortest and 15 next to them
    ++n;
    for (size_t i = 0; i < 8; ++i) {
      for (size_t j = i + 1; j < 8; ++j) {
        for (int s = 0; s < 4; ++s, ++n) {
          t.one_bit[n][i] = s & 1 ? -1 : 1;
          t.one_bit[n][j] = s & 2 ? -1 : 1;
        }
      }
    }
    for (uint32_t s = 0; s < 256; ++s) {
      if (std::popcount(s) % 2 != 0) continue;
      for (size_t i = 0; i < 8; ++i) t.one_bit[n][i] = s >> i & 1 ? -0.5f : 0.5f;
      ++n;
    }
    for (size_t i = 0; i < 15; ++i) t.one_bit[n++][i % 8] = i < 8 ? 2 : -2;
    return t;
  }();
  return kTables;
}

BEST_TARGET void RoundE8P(const E8Tables& t, const Lanes* x, const Lanes* w, Lanes* y) {
  Vec best = Vec{} + 1e30f;
  Ints pattern = {}, flip = {}, plus = {};
  for (int s = 0; s < 2; ++s) {
    Vec error[8][3], turned[8][3];  // of each value, and what its other sign costs on top
    Ints negative = {};
    for (int i = 0; i < 8; ++i) {
      const Vec z = x[i].v - (s == 0 ? -0.25f : 0.25f), a = z < 0 ? -z : z;
      negative ^= z < 0 ? Ints{} + 1 : Ints{};
      for (int l = 0; l < 3; ++l) {
        const float v = static_cast<float>(l) + 0.5f;
        error[i][l] = w[i].v * (a - v) * (a - v);
        turned[i][l] = w[i].v * a * (4 * v);
      }
    }
    for (int p = 0; p < 256; ++p) {
      const auto& level = t.level[static_cast<size_t>(p)];
      Vec cost = {}, least = Vec{} + 1e30f;
      for (size_t i = 0; i < 8; ++i) {
        const Vec other = turned[i][level[i]];
        cost += error[i][level[i]];
        least = other < least ? other : least;
      }
      const Ints wrong = negative != (Ints{} + (t.odd[static_cast<size_t>(p)] ? 1 : 0));
      cost += wrong ? least : Vec{};
      const Ints better = cost < best;
      best = better ? cost : best;
      pattern = better ? Ints{} + p : pattern;
      flip = better ? wrong : flip;
      plus = better ? Ints{} + s : plus;
    }
  }
  for (int r = 0; r < kLanes; ++r) {
    const auto& level = t.level[static_cast<size_t>(pattern[r])];
    const float shift = plus[r] ? 0.25f : -0.25f;
    size_t turn = 8;
    float least = 1e30f;
    for (size_t i = 0; flip[r] && i < 8; ++i) {
      const float cost = w[i].v[r] * std::abs(x[i].v[r] - shift) * (static_cast<float>(level[i]) + 0.5f);
      if (cost < least) least = cost, turn = i;
    }
    for (size_t i = 0; i < 8; ++i) {
      const float v = static_cast<float>(level[i]) + 0.5f;
      y[i].v[r] = shift + ((x[i].v[r] < shift) != (i == turn) ? -v : v);
    }
  }
}

BEST_TARGET void RoundE8OneBit(const E8Tables& t, const Lanes* x, const Lanes* w, Lanes* y) {
  Vec best = Vec{} + 1e30f;
  Ints index = {};
  for (int p = 0; p < 256; ++p) {
    const auto& g = t.one_bit[static_cast<size_t>(p)];
    Vec cost = {};
    for (size_t i = 0; i < 8; ++i) cost += w[i].v * (g[i] - x[i].v) * (g[i] - x[i].v);
    index = cost < best ? Ints{} + p : index;
    best = cost < best ? cost : best;
  }
  for (size_t i = 0; i < 8; ++i) {
    for (int r = 0; r < kLanes; ++r) y[i].v[r] = t.one_bit[static_cast<size_t>(index[r])][i];
  }
}

class Lattice : public Code {
 public:
  explicit Lattice(int bits) : bits_(bits) {}
  void Round(int n, const Lanes* x, const Lanes* w, Lanes* y) const override {
    // As QuIP# has them, lib/codebook: the grid's unit, and what the residual is multiplied by.
    const float unit = bits_ == 3 ? 0.98f : 1.03f, residual_scale = bits_ == 3 ? 2.04f : 3.45f;
    Lanes in[8], first[8], second[8];
    for (int at = 0; at < n; at += 8) {
      for (int i = 0; i < 8; ++i) in[i].v = x[at + i].v * unit;
      RoundE8P(E8(), in, w + at, first);
      if (bits_ > 2) {
        for (int i = 0; i < 8; ++i) in[i].v = (in[i].v - first[i].v) * residual_scale;
        (bits_ == 3 ? RoundE8OneBit : RoundE8P)(E8(), in, w + at, second);
        for (int i = 0; i < 8; ++i) first[i].v += second[i].v / residual_scale;
      }
      for (int i = 0; i < 8; ++i) y[at + i].v = first[i].v / unit;
    }
  }

 private:
  int bits_;
};

// ---- Trellis codes

// A weight's value depends on a window of L bits; the next weight's window is k bits further on. State: the
// window's lowest L - k bits, which the weight before has chosen. from [n, states]: the k bits that went out.
BEST_TARGET void ViterbiForward(int bits, int window, const float* values, int n, const Lanes* x,
                                const Lanes* w, Lanes* cost, Lanes* next, Bytes* from) {
  const int states = 1 << (window - bits), symbols = 1 << bits;
  for (int i = 0; i < n; ++i) {
    const Vec a = -2 * w[i].v * x[i].v, b = w[i].v;
    for (int t = 0; t < states; ++t) {
      Vec best = Vec{} + 1e30f;
      Ints which = {};
      const float* value = values + t * symbols;
      const Lanes* before = cost + ((t << bits) & (states - 1));
      for (int d = 0; d < symbols; ++d) {
        const Vec z = before[d & (states - 1)].v + value[d] * (b * value[d] + a);
        which = z < best ? Ints{} + d : which;
        best = z < best ? z : best;
      }
      next[t].v = best;
      from[i * states + t] = __builtin_convertvector(which, Bytes);
    }
    std::swap(cost, next);
  }
  if (n % 2 != 0) std::copy_n(cost, states, next);
}

class Trellis : public Code {
 public:
  Trellis(int bits, int window, bool circular, std::vector<float> values)
      : bits_(bits), window_(window), circular_(circular), values_(std::move(values)) {}

  void Round(int n, const Lanes* x, const Lanes* w, Lanes* y) const override {
    std::vector<std::array<int, kLanes>> path(static_cast<size_t>(n));
    Search(n, x, w, path.data());
    for (int i = 0; i < n; ++i) {
      const auto& windows = path[static_cast<size_t>(i)];
      for (int r = 0; r < kLanes; ++r) {
        y[i].v[r] = values_[static_cast<size_t>(windows[static_cast<size_t>(r)])];
      }
    }
  }

  // path [n]: the windows. Circular: a first pass, begun in the middle, finds the state at the seam.
  void Search(int n, const Lanes* x, const Lanes* w, std::array<int, kLanes>* path) const {
    const size_t states = size_t{1} << (window_ - bits_);
    thread_local std::vector<Lanes> cost, next, turned, turned_w;
    thread_local std::unique_ptr<Bytes[]> from;
    thread_local size_t from_size = 0;
    cost.assign(states, {});
    next.resize(states);
    if (const size_t need = states * static_cast<size_t>(n); from_size < need) {
      from.reset(new Bytes[need]);
      from_size = need;
    }
    std::array<int, kLanes> state = {};
    const auto forward = [&](const Lanes* in, const Lanes* weights) {
      ViterbiForward(bits_, window_, values_.data(), n, in, weights, cost.data(), next.data(), from.get());
    };
    const auto back = [&](int end, std::array<int, kLanes>* out) {
      for (int r = 0; r < kLanes; ++r) {
        int& s = state[static_cast<size_t>(r)];
        for (int i = n - 1; i >= end; --i) {
          const int window = s << bits_ | from[static_cast<size_t>(i) * states + static_cast<size_t>(s)][r];
          if (out != nullptr) out[i][static_cast<size_t>(r)] = window;
          s = window & static_cast<int>(states - 1);
        }
      }
    };
    const auto find_end = [&] {
      for (int r = 0; r < kLanes; ++r) {
        size_t best = 0;
        for (size_t s = 1; s < states; ++s) best = cost[s].v[r] < cost[best].v[r] ? s : best;
        state[static_cast<size_t>(r)] = static_cast<int>(best);
      }
    };
    if (circular_) {
      turned.assign(x, x + n);
      turned_w.assign(w, w + n);
      std::rotate(turned.begin(), turned.begin() + n / 2, turned.end());
      std::rotate(turned_w.begin(), turned_w.begin() + n / 2, turned_w.end());
      forward(turned.data(), turned_w.data());
      find_end();
      back(n / 2, nullptr);
      for (size_t s = 0; s < states; ++s) {
        for (int r = 0; r < kLanes; ++r) {
          cost[s].v[r] = static_cast<int>(s) == state[static_cast<size_t>(r)] ? 0 : 1e20f;
        }
      }
      forward(x, w);
    } else {
      forward(x, w);
      find_end();
    }
    back(0, path);
  }

 private:
  int bits_, window_;
  bool circular_;
  std::vector<float> values_;
};

// Mean squared error of `blocks` blocks in 16 lanes; sums and counts per window, if asked for.
double MeasureTable(const Table& table, int bits, const Sampler& sample, Random& random, int blocks,
                    std::vector<double>* sums, std::vector<double>* counts) {
  const std::vector<float> values = table.Values();
  const Trellis code(bits, table.window(), true, values);
  std::vector<Lanes> x(kBlock), ones(kBlock);
  std::vector<std::array<int, kLanes>> path(kBlock);
  for (Lanes& one : ones) one.v += 1;
  double error = 0;
  for (int b = 0; b < blocks; ++b) {
    sample(random, x.data());
    code.Search(kBlock, x.data(), ones.data(), path.data());
    for (size_t i = 0; i < kBlock; ++i) {
      for (int r = 0; r < kLanes; ++r) {
        const size_t window = static_cast<size_t>(path[i][static_cast<size_t>(r)]);
        const double d = x[i].v[r] - values[window];
        error += d * d;
        if (sums == nullptr) continue;
        (*sums)[window] += x[i].v[r];
        (*counts)[window] += 1;
      }
    }
  }
  return error / (static_cast<double>(blocks) * kBlock * kLanes);
}

}  // namespace

std::vector<double> NormalDensity() {
  std::vector<double> density(kBins);
  for (size_t i = 0; i < density.size(); ++i) density[i] = std::exp(-0.5 * BinCentre(i) * BinCentre(i));
  return density;
}
std::unique_ptr<Code> UniformCode(int bits) {
  return std::make_unique<Scalar>(UniformPoints(bits));
}
std::unique_ptr<Code> LloydCode(int bits, const std::vector<double>& density) {
  return std::make_unique<Scalar>(LloydPoints(bits, density));
}
std::unique_ptr<Code> E8Code(int bits) {
  return std::make_unique<Lattice>(bits);
}
std::unique_ptr<Code> TrellisCode(int bits, int window, bool circular, std::vector<float> values) {
  return std::make_unique<Trellis>(bits, window, circular, std::move(values));
}

std::vector<float> ComputedValues(const std::string& name, int bits, int window) {
  std::vector<float> values(size_t{1} << window);
  double sum = 0, squares = 0;
  for (uint32_t s = 0; s < values.size(); ++s) {
    uint32_t x = s;
    if (name == "1mad") x = s * 34038481u + 76625530u;
    if (name == "exl3") x = s * 0x83dcd12du;
    if (name == "3inst") {
      x = ((s * 89226354u + 64248484u) & 0x8fff8fffu) ^ 0x3b603b60u;
      values[s] = HalfToFloat(static_cast<uint16_t>(x)) + HalfToFloat(static_cast<uint16_t>(x >> 16));
    } else {
      values[s] = static_cast<float>((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24)) - 510;
    }
    sum += values[s];
    squares += static_cast<double>(values[s]) * values[s];
  }
  const double n = static_cast<double>(values.size()), mean = sum / n;
  const double scale = std::sqrt((1 - std::exp2(-2 * bits)) / (squares / n - mean * mean));
  for (float& v : values) v = static_cast<float>((v - mean) * scale);
  return values;
}

void SampleNormal(Random& random, Lanes* x) {
  for (int i = 0; i < kBlock; ++i) {
    for (int r = 0; r < kLanes; ++r) x[i].v[r] = static_cast<float>(random.Normal());
  }
}

std::vector<float> Table::Values() const {
  std::vector<float> values(size_t{1} << window());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = entries[i & (low() - 1)] + (high_bits > 0 ? entries[low() + (i >> low_bits)] : 0);
  }
  return values;
}
void Table::ToIntegers() {
  float largest = 0;
  for (const float v : Values()) largest = std::max(largest, std::abs(v));
  unit = (largest * 1.01f) / 127;
  for (float& e : entries) e = std::round(e / unit) * unit;
}
std::optional<Table> EmptyTable(const std::string& name) {
  if (name == "free") return Table{6, 0};
  if (name == "add") return Table{4, 4};
  if (name == "add5") return Table{5, 5};
  if (name == "add6") return Table{6, 6};
  return std::nullopt;
}

// Lloyd's iterations with a Viterbi search: from several beginnings, the best is then trained on.
Table TrainTable(const Table& empty, int bits, const Sampler& sample, uint64_t seed) {
  const bool additive = empty.high_bits > 0;
  const size_t low = empty.low();
  const auto improve = [&](Table& table, Random& random, int iterations, int blocks) {
    double error = 0;
    for (int iteration = 0; iteration < iterations; ++iteration) {
      const size_t n = size_t{1} << table.window();
      std::vector<double> sums(n), counts(n);
      error = MeasureTable(table, bits, sample, random, blocks, &sums, &counts);
      for (int sweep = 0; sweep < (additive ? 6 : 1); ++sweep) {
        for (const bool upper : {false, true}) {
          if (upper && !additive) continue;
          std::vector<double> s(table.entries.size()), c(s.size());
          for (size_t i = 0; i < n; ++i) {
            const size_t lower_half = i & (low - 1), upper_half = low + (i >> table.low_bits);
            const size_t to = upper ? upper_half : lower_half;
            const double other = upper ? table.entries[lower_half] : additive ? table.entries[upper_half] : 0;
            s[to] += sums[i] - counts[i] * other;
            c[to] += counts[i];
          }
          for (size_t i = upper ? low : 0; i < (upper ? s.size() : low); ++i) {
            table.entries[i] = static_cast<float>(c[i] > 0 ? s[i] / c[i] : random.Normal() * 0.5);
          }
        }
      }
    }
    return error;
  };
  Table best = empty;
  double least = INFINITY;
  for (uint64_t trial = 0; trial < 12; ++trial) {
    Random random(seed * 1000 + trial);
    Table table = empty;
    for (size_t i = 0; i < table.entries.size(); ++i) {
      table.entries[i] = static_cast<float>(random.Normal() * (!additive ? 1 : i < low ? 0.75 : 0.66));
      if (additive && trial % 2 != 0) {
        const double u = (static_cast<double>(i % low) + 0.5) / static_cast<double>(low);
        table.entries[i] = static_cast<float>(i < low ? NormalQuantile(u) : random.Normal() * 0.15);
      }
    }
    const double error = improve(table, random, 30, 32);
    if (error < least) least = error, best = table;
  }
  Random random(seed);
  improve(best, random, 60, 256);
  best.ToIntegers();
  return best;
}

double ErrorOf(const Table& table, int bits, const Sampler& sample, int blocks) {
  Random random(99);
  return MeasureTable(table, bits, sample, random, blocks, nullptr, nullptr);
}

}  // namespace thimble

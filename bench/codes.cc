// Compares codes for weights of 2, 3 and 4 bits, with everything else equal: docs/decisions/native-codes.md.
//   codes_bench round CODE BITS IN.gguf OUT.gguf   the model as it comes back from a code
//   codes_bench train CODE BITS                    a trellis code's table, and its error
//   codes_bench speed                              matrix-vector products (codes_speed.cc)
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "bench/code_trials.h"
#include "formats/gguf.h"
#include "quant/imatrix.h"

namespace thimble {
int MeasureSpeed(int max_threads);

namespace {

// Signs and Hadamard matrices of the largest power of two in n.
struct Rotation {
  int64_t size;
  std::vector<float> signs;
  explicit Rotation(int64_t n) : size(n & -n), signs(static_cast<size_t>(n)) {
    Random random(1);
    for (float& s : signs) s = random.Next() & 1 ? 1.0f : -1.0f;
  }
  void Hadamard(Lanes* x) const {
    const float scale = 1 / std::sqrt(static_cast<float>(size));
    for (int64_t begin = 0; begin < static_cast<int64_t>(signs.size()); begin += size) {
      for (int64_t step = 1; step < size; step *= 2) {
        for (int64_t i = 0; i < size; ++i) {
          if (i & step) continue;
          Lanes &a = x[begin + i], &b = x[begin + i + step];
          const Vec sum = a.v + b.v;
          b.v = a.v - b.v;
          a.v = sum;
        }
      }
      for (int64_t i = 0; i < size; ++i) x[begin + i].v *= scale;
    }
  }
  void Sign(Lanes* x) const {
    for (size_t i = 0; i < signs.size(); ++i) x[i].v *= signs[i];
  }
};

struct Settings {
  int group = 64;     // columns that share a scale
  int sub_bits = 0;   // 0: a scale has 5 bits of exponent and 3 of mantissa; else so many, under one in F16
  bool rows = false;  // the trellis goes through whole rows, not through circles of 64
};

float ToScale(float s, float row_scale, int sub_bits) {
  if (sub_bits > 0) {
    return row_scale * std::clamp(std::nearbyint(s / row_scale), 1.0f, static_cast<float>(1 << sub_bits));
  }
  int exponent;
  const float fraction = std::frexp(std::clamp(s, 0x1p-20f, 2048.0f), &exponent);
  return std::ldexp(std::nearbyint(fraction * 16), exponent - 4);
}

// 16 rows: x [columns] becomes what comes back from the code.
void RoundRows(const Code& code, const Settings& settings, int columns, Lanes* x, const Lanes* w) {
  const int chain = settings.rows ? columns : kBlock, group = settings.group;
  const size_t groups = static_cast<size_t>(columns / group);
  std::vector<Lanes> rms(groups);
  Vec row_scale = Vec{} + 1e-20f;
  for (int i = 0; i < columns; ++i) rms[static_cast<size_t>(i / group)].v += w[i].v * x[i].v * x[i].v;
  for (size_t g = 0; g < groups; ++g) {
    Vec weight = {};
    for (int i = 0; i < group; ++i) weight += w[static_cast<int>(g) * group + i].v;
    for (int r = 0; r < kLanes; ++r) {
      rms[g].v[r] = std::max(std::sqrt(rms[g].v[r] / weight[r]), 1e-10f);
      row_scale[r] = std::max(row_scale[r], rms[g].v[r]);
    }
  }
  for (int r = 0; r < kLanes && settings.sub_bits > 0; ++r) {
    const float top = row_scale[r] * 1.12f / static_cast<float>(1 << settings.sub_bits);
    row_scale[r] = std::max(HalfToFloat(FloatToHalf(top)), 0x1p-24f);
  }
  std::vector<Lanes> in(static_cast<size_t>(chain)), weights(in.size()), out(in.size()), best(in.size());
  const int n = chain / group;
  std::vector<Lanes> scale(static_cast<size_t>(n)), fitted(scale.size()), best_fit(scale.size());
  for (int begin = 0; begin < columns; begin += chain) {
    Vec least = Vec{} + INFINITY;
    for (const float factor : {1.0f, 0.84f, 1.19f}) {
      for (int i = 0; i < chain; ++i) {
        const size_t g = static_cast<size_t>(i / group), at = static_cast<size_t>(i);
        if (i % group == 0) {
          for (int r = 0; r < kLanes; ++r) {
            // Chains of one block try scales beside the root mean square; long ones the last that fitted.
            const float s = settings.rows && factor != 1
                                ? best_fit[g].v[r]
                                : rms[static_cast<size_t>(begin / group) + g].v[r] * factor;
            scale[g].v[r] = ToScale(s, row_scale[r], settings.sub_bits);
          }
        }
        in[at].v = x[begin + i].v / scale[g].v;
        weights[at].v = w[begin + i].v * scale[g].v * scale[g].v;
      }
      Vec mean = {};
      for (const Lanes& each : weights) mean += each.v / static_cast<float>(chain);
      for (Lanes& each : weights) each.v /= mean;
      code.Round(chain, in.data(), weights.data(), out.data());
      Vec error = {};
      for (int g = 0; g < n; ++g) {
        Vec xx = {}, xy = {}, yy = Vec{} + 1e-30f;
        for (int i = g * group; i < (g + 1) * group; ++i) {
          const Vec& y = out[static_cast<size_t>(i)].v;
          const Lanes &to = x[begin + i], &weight = w[begin + i];
          xx += weight.v * to.v * to.v;
          xy += weight.v * to.v * y;
          yy += weight.v * y * y;
        }
        Vec& s = fitted[static_cast<size_t>(g)].v;
        for (int r = 0; r < kLanes; ++r) s[r] = ToScale(xy[r] / yy[r], row_scale[r], settings.sub_bits);
        error += xx - 2 * s * xy + s * s * yy;
      }
      const Ints better = error < least;
      least = better ? error : least;
      for (size_t i = 0; i < in.size(); ++i) {
        best[i].v = better ? out[i].v * fitted[i / static_cast<size_t>(group)].v : best[i].v;
      }
      for (size_t g = 0; g < scale.size(); ++g) best_fit[g].v = better ? fitted[g].v : best_fit[g].v;
    }
    std::copy(best.begin(), best.end(), x + begin);
  }
}

// 16 rows from `row` on (the last again where there are fewer), one to a lane.
void LoadRows(const float* from, int64_t row, int64_t rows, int64_t columns, Lanes* x) {
  for (int r = 0; r < kLanes; ++r) {
    const float* source = from + std::min(row + r, rows - 1) * columns;
    for (int64_t i = 0; i < columns; ++i) x[i].v[r] = source[i];
  }
}

bool IsLayerMatrix(const TensorInfo& t, const std::vector<int>& layers) {
  int layer = 0;
  if (std::sscanf(t.name.c_str(), "blk.%d.", &layer) != 1 || t.shape.size() != 2) return false;
  if (!layers.empty() && std::ranges::find(layers, layer) == layers.end()) return false;
  return t.type == WeightType::kF32 && t.name.ends_with(".weight") && t.row_size() % kBlock == 0;
}

// Blocks of a model's matrices, each over its root mean square.
Sampler SampleModel(const GgufFile& file, bool rotate) {
  std::vector<const TensorInfo*> matrices;
  for (const TensorInfo& t : file.tensors) {
    if (IsLayerMatrix(t, {})) matrices.push_back(&t);
  }
  return [matrices, rotate](Random& random, Lanes* x) {
    const TensorInfo& t = *matrices[random.Below(matrices.size())];
    const int64_t columns = t.row_size();
    std::vector<Lanes> rows(static_cast<size_t>(columns));
    LoadRows(reinterpret_cast<const float*>(t.bytes.data()),
             static_cast<int64_t>(random.Below(static_cast<uint64_t>(t.n_rows()))), t.n_rows(), columns,
             rows.data());
    if (rotate) {
      const Rotation rotation(columns);
      rotation.Sign(rows.data());
      rotation.Hadamard(rows.data());
    }
    const size_t begin = random.Below(static_cast<uint64_t>(columns / kBlock)) * kBlock;
    Vec squares = Vec{} + 1e-20f;
    for (size_t i = 0; i < kBlock; ++i) squares += rows[begin + i].v * rows[begin + i].v;
    for (size_t i = 0; i < kBlock; ++i) {
      for (int r = 0; r < kLanes; ++r) x[i].v[r] = rows[begin + i].v[r] / std::sqrt(squares[r] / kBlock);
    }
  };
}

struct Options {
  std::string code, in, out, imatrix, table;
  int bits = 4, window = 12, threads = 2;
  bool rotate = false, embedding = false;
  std::vector<int> layers;
  Settings settings;
};

std::unique_ptr<Code> MakeCode(const Options& o) {
  if (o.code == "uniform") return UniformCode(o.bits);
  if (o.code == "normal") return LloydCode(o.bits, NormalDensity());
  if (o.code == "e8p") return E8Code(o.bits);
  if (o.code == "1mad" || o.code == "3inst" || o.code == "exl3") {
    return TrellisCode(o.bits, o.window, !o.settings.rows, ComputedValues(o.code, o.bits, o.window));
  }
  const std::optional<Table> empty = EmptyTable(o.code);
  if (!empty) return nullptr;
  Table table = *empty;
  if (o.table.empty()) {
    table = TrainTable(table, o.bits, SampleNormal, 1);
  } else {
    std::ifstream file(o.table);
    file >> table.unit;
    for (float& e : table.entries) file >> e, e *= table.unit;
    if (!file) return nullptr;
  }
  return TrellisCode(o.bits, table.window(), !o.settings.rows, table.Values());
}

// The tensor's own points, for what comes out of normalizing each block, weighted as its error is.
std::unique_ptr<Code> TrainScalar(int bits, const float* from, const TensorInfo& t, const Lanes* w,
                                  const Rotation* rotation) {
  std::vector<double> density(kBins);
  std::vector<Lanes> x(static_cast<size_t>(t.row_size()));
  for (int64_t row = 0; row < t.n_rows(); row += kLanes) {
    LoadRows(from, row, t.n_rows(), t.row_size(), x.data());
    if (rotation != nullptr) rotation->Sign(x.data()), rotation->Hadamard(x.data());
    for (size_t begin = 0; begin < x.size(); begin += kBlock) {
      for (int r = 0; r < kLanes; ++r) {
        double squares = 1e-30, weight = 0;
        for (size_t i = begin; i < begin + kBlock; ++i) {
          squares += static_cast<double>(w[i].v[r]) * x[i].v[r] * x[i].v[r];
          weight += w[i].v[r];
        }
        const double rms = std::sqrt(squares / weight);
        for (size_t i = begin; i < begin + kBlock; ++i) {
          const double bin = std::clamp((x[i].v[r] / rms + 8) / 16 * kBins, 0.0, kBins - 1.0);
          density[static_cast<size_t>(bin)] += w[i].v[r] * rms * rms;
        }
      }
    }
  }
  return LloydCode(bits, density);
}

Status Round(const Options& o) {
  ASSIGN_OR_RETURN(const GgufFile file, ReadGguf(o.in));
  Imatrix imatrix;
  if (!o.imatrix.empty()) {
    ASSIGN_OR_RETURN(imatrix, ReadImatrix(o.imatrix));
  }
  std::unique_ptr<Code> code = MakeCode(o);
  if (code == nullptr && o.code != "lloyd")
    return MakeError(ErrorCode::kInvalidArgument, "no code '{}', or no such table", o.code);
  std::vector<TensorDeclaration> tensors;
  for (const TensorInfo& t : file.tensors) tensors.push_back({t.name, t.type, t.shape});
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(o.out, file.metadata, tensors));
  ThreadPool pool(o.threads);
  std::mutex mutex;
  double error = 0, power = 0;
  for (const TensorInfo& t : file.tensors) {
    const bool embedding = o.embedding && t.name == "token_embd.weight" && t.type == WeightType::kF32;
    if (!IsLayerMatrix(t, o.layers) && !embedding) {
      RETURN_IF_ERROR(writer.Write(t.bytes));
      continue;
    }
    const int64_t columns = t.row_size(), rows = t.n_rows();
    const float* from = reinterpret_cast<const float*>(t.bytes.data());
    std::vector<float> result(static_cast<size_t>(rows * columns));
    std::optional<Rotation> rotation;
    if (o.rotate) rotation.emplace(columns);
    // Importances over their mean; where inputs are rotated, each has the mean of those it is mixed from.
    std::vector<Lanes> w(static_cast<size_t>(columns));
    for (Lanes& each : w) each.v += 1;
    if (const auto found = imatrix.mean_squares.find(t.name); found != imatrix.mean_squares.end()) {
      double mean = 1e-30;
      for (const float m : found->second) mean += m / static_cast<double>(columns);
      for (size_t i = 0; i < w.size(); ++i)
        w[i].v = Vec{} + std::max(found->second[i] / static_cast<float>(mean), 1e-5f);
    }
    if (rotation) {
      const size_t size = static_cast<size_t>(rotation->size);
      for (size_t begin = 0; begin < w.size(); begin += size) {
        Vec sum = {};
        for (size_t i = 0; i < size; ++i) sum += w[begin + i].v / static_cast<float>(size);
        for (size_t i = 0; i < size; ++i) w[begin + i].v = sum;
      }
    }
    if (o.code == "lloyd") code = TrainScalar(o.bits, from, t, w.data(), rotation ? &*rotation : nullptr);
    pool.ParallelFor((rows + kLanes - 1) / kLanes, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<Lanes> x(static_cast<size_t>(columns)), before;
      double my_error = 0, my_power = 0;
      for (int64_t row = begin * kLanes; row < end * kLanes; row += kLanes) {
        LoadRows(from, row, rows, columns, x.data());
        if (rotation) rotation->Sign(x.data()), rotation->Hadamard(x.data());
        before = x;
        RoundRows(*code, o.settings, static_cast<int>(columns), x.data(), w.data());
        for (size_t i = 0; i < x.size(); ++i) {
          for (int r = 0; r < kLanes; ++r) {
            const double d = before[i].v[r] - x[i].v[r];
            my_error += w[i].v[r] * d * d;
            my_power += static_cast<double>(w[i].v[r]) * before[i].v[r] * before[i].v[r];
          }
        }
        if (rotation) rotation->Hadamard(x.data()), rotation->Sign(x.data());
        for (int r = 0; r < kLanes && row + r < rows; ++r) {
          for (int64_t i = 0; i < columns; ++i) {
            result[static_cast<size_t>((row + r) * columns + i)] = x[static_cast<size_t>(i)].v[r];
          }
        }
      }
      const std::lock_guard lock(mutex);
      error += my_error;
      power += my_power;
    });
    const std::span bytes(reinterpret_cast<const uint8_t*>(result.data()), result.size() * sizeof(float));
    RETURN_IF_ERROR(writer.Write(bytes));
  }
  fmt::print("{} {} bits{}: relative error {:.5f}\n", o.code, o.bits, o.rotate ? ", rotated" : "",
             error / power);
  return writer.Finish();
}

Status Train(const Options& o) {
  Sampler sample = SampleNormal;
  std::optional<GgufFile> file;
  if (!o.in.empty()) {
    ASSIGN_OR_RETURN(file, ReadGguf(o.in));
    sample = SampleModel(*file, o.rotate);
  }
  const std::optional<Table> empty = EmptyTable(o.code);
  if (!empty) return MakeError(ErrorCode::kInvalidArgument, "'{}' has no table", o.code);
  const Table table = TrainTable(*empty, o.bits, sample, 1);
  fmt::print(stderr, "{} {} bits: mean squared error {:.5f} on a Gaussian", o.code, o.bits,
             ErrorOf(table, o.bits, SampleNormal, 1000));
  if (file) {
    fmt::print(stderr, ", {:.5f} on the model", ErrorOf(table, o.bits, sample, 1000));
  }
  fmt::print(stderr, "\n");
  fmt::print("{}\n", table.unit);
  for (size_t i = 0; i < table.entries.size(); ++i) {
    fmt::print("{}{}", std::nearbyint(table.entries[i] / table.unit), i % 16 == 15 ? "\n" : " ");
  }
  return {};
}

int Main(int argc, char** argv) {
  CLI::App app("Compares codes for weights of 2, 3 and 4 bits");
  app.require_subcommand(1);
  Options o;
  const auto add_code = [&](CLI::App* command) {
    command
        ->add_option("CODE", o.code, "uniform, normal, lloyd, e8p, 1mad, 3inst, exl3, free, add, add5, add6")
        ->required();
    command->add_option("BITS", o.bits)->required()->check(CLI::Range(2, 4));
    command->add_flag("--rotate", o.rotate, "Random signs and Hadamard matrices over a matrix's inputs");
  };
  CLI::App* round = app.add_subcommand("round", "Write a model as it comes back from a code");
  add_code(round);
  round->add_option("IN", o.in, "GGUF in F32")->required();
  round->add_option("OUT", o.out)->required();
  round->add_option("--imatrix", o.imatrix);
  round->add_option("--layers", o.layers, "Only these")->delimiter(',');
  round->add_flag("--embedding", o.embedding, "Round the embedding too");
  round->add_option("--window", o.window, "Bits, of computed values")->check(CLI::Range(8, 16));
  round->add_flag("--rows", o.settings.rows, "Trellises through whole rows, not circles of 64 weights");
  round->add_option("--sub-bits", o.settings.sub_bits, "Scales of so many bits under one in F16 per row");
  round->add_option("--group", o.settings.group, "Weights that share a scale")
      ->check(CLI::IsMember({16, 32, 64}));
  round->add_option("--table", o.table,
                    "Of free, add, add5 and add6, as train prints it (default: trained on a Gaussian)");
  round->add_option("--threads", o.threads);
  CLI::App* train = app.add_subcommand("train", "Train a table");
  add_code(train);
  train->add_option("--model", o.in, "On these weights, not on a Gaussian");
  CLI::App* speed = app.add_subcommand("speed", "Measure matrix-vector products");
  speed->add_option("--threads", o.threads);
  CLI11_PARSE(app, argc, argv);
  if (*speed) return MeasureSpeed(o.threads);
  const Status status = *round ? Round(o) : Train(o);
  if (!status) fmt::print(stderr, "codes_bench: {}\n", status.error().message);
  return status ? 0 : 1;
}

}  // namespace
}  // namespace thimble

int main(int argc, char** argv) {
  return thimble::Main(argc, argv);
}

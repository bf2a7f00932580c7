#include "quant/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>

#include "base/random.h"
#include "quant/tensor_names.h"

namespace thimble {
namespace {

// What becomes of a tensor.
struct Fold {
  std::vector<float> columns;         // factors: the weights of the norm before it
  const Rotation* inputs = nullptr;   // of runs of its columns
  const Rotation* outputs = nullptr;  // of runs of its rows, or of a bias's elements
  bool ones = false;                  // a norm whose weights went into what follows it

  bool empty() const { return inputs == nullptr && outputs == nullptr && !ones; }
};

// [n, n]: rows of Gaussians, made orthogonal and of length 1.
std::vector<double> RandomOrthogonal(int64_t n, Random& random) {
  std::vector<double> q(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    double* row = q.data() + i * n;
    for (int64_t j = 0; j < n; ++j) row[j] = random.Normal();
    for (int pass = 0; pass < 2; ++pass) {  // again, for what rounding left
      for (int64_t k = 0; k < i; ++k) {
        const double* other = q.data() + k * n;
        double dot = 0;
        for (int64_t j = 0; j < n; ++j) dot += row[j] * other[j];
        for (int64_t j = 0; j < n; ++j) row[j] -= dot * other[j];
      }
    }
    double squares = 0;
    for (int64_t j = 0; j < n; ++j) squares += row[j] * row[j];
    for (int64_t j = 0; j < n; ++j) row[j] /= std::sqrt(squares);
  }
  return q;
}

class Rotator {
 public:
  Rotator(const ExportPlan& plan, const ModelConfig& config, uint64_t seed)
      : plan_(plan), places_(PlacesByName(config, Naming::kGguf)), values_(config.head_dim, seed) {
    if (RotationsOf(config).residual) residual_.emplace(config.d_model, seed + 1);
  }

  Fold FoldOf(const ExportTensor& t) const;

 private:
  std::vector<float> NormBefore(Slot slot, int64_t layer) const;

  const ExportPlan& plan_;
  std::unordered_map<std::string, TensorPlace> places_;
  Rotation values_;
  std::optional<Rotation> residual_;
};

std::vector<float> Decode(const ExportTensor& t) {
  std::vector<float> w(static_cast<size_t>(t.source.n_elements()));
  for (int64_t i = 0; i < t.source.n_rows(); ++i)
    ReadRow(t, SourceRow(t, i), w.data() + i * t.source.row_size());
  return w;
}

std::vector<float> Rotator::NormBefore(Slot norm, int64_t layer) const {
  for (const ExportTensor& t : plan_.tensors) {
    const auto place = places_.find(t.name);
    if (place != places_.end() && place->second.row->slot == norm && place->second.layer == layer)
      return Decode(t);
  }
  return {};
}

Fold Rotator::FoldOf(const ExportTensor& t) const {
  const auto found = places_.find(t.name);
  if (found == places_.end()) return {};
  const auto [row, layer] = found->second;
  const Rotation* residual = residual_ ? &*residual_ : nullptr;
  const auto reads = [&](Slot norm) {
    return Fold{.columns = residual ? NormBefore(norm, layer) : std::vector<float>(), .inputs = residual};
  };
  Fold fold;
  switch (row->slot) {
    case Slot::kEmbedding:
      return {.inputs = residual};
    case Slot::kQ:
    case Slot::kK:
      return reads(Slot::kAttnNorm);
    case Slot::kV:
      fold = reads(Slot::kAttnNorm);
      fold.outputs = &values_;
      return fold;
    case Slot::kVBias:
      return {.outputs = &values_};
    case Slot::kO:
      return {.inputs = &values_, .outputs = residual};
    case Slot::kGate:
    case Slot::kUp:
      return reads(Slot::kFfnNorm);
    case Slot::kDown:
    case Slot::kOBias:
    case Slot::kDownBias:
      return {.outputs = residual};
    case Slot::kOutput:
      return reads(Slot::kOutputNorm);
    case Slot::kAttnNorm:
    case Slot::kFfnNorm:
    case Slot::kOutputNorm:
      return {.ones = residual != nullptr};
    default:
      return {};
  }
}

// w: [rows, cols]; a bias is one column.
void Apply(const Fold& fold, int64_t rows, int64_t cols, ThreadPool& pool, std::vector<float>& w) {
  if (fold.ones) std::ranges::fill(w, 1.0f);
  if (fold.inputs != nullptr) {
    pool.ParallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        float* row = w.data() + i * cols;
        for (size_t j = 0; j < fold.columns.size(); ++j) row[j] *= fold.columns[j];
        for (int64_t j = 0; j < cols; j += fold.inputs->n()) fold.inputs->Apply(row + j);
      }
    });
  }
  if (fold.outputs != nullptr) {
    const int64_t n = fold.outputs->n();
    pool.ParallelFor(rows / n * cols, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<float> column(static_cast<size_t>(n));
      for (int64_t k = begin; k < end; ++k) {
        float* first = w.data() + k / cols * n * cols + k % cols;
        for (int64_t i = 0; i < n; ++i) column[static_cast<size_t>(i)] = first[i * cols];
        fold.outputs->Apply(column.data());
        for (int64_t i = 0; i < n; ++i) first[i * cols] = column[static_cast<size_t>(i)];
      }
    });
  }
}

}  // namespace

Rotation::Rotation(int64_t n, uint64_t seed)
    : n_(n), even_(int64_t{1} << std::countr_zero(static_cast<uint64_t>(n))), odd_(n / even_) {
  Random random(seed);
  const float length = 1 / std::sqrt(static_cast<float>(even_));
  for (int64_t i = 0; i < n; ++i) signs_.push_back(random.Uniform() < 0.5 ? -length : length);
  if (odd_ > 1) dense_ = RandomOrthogonal(odd_, random);
}

void Rotation::Apply(float* x) const {
  for (int64_t i = 0; i < n_; ++i) x[i] *= signs_[static_cast<size_t>(i)];
  for (float* block = x; block < x + n_; block += even_) {
    for (int64_t half = 1; half < even_; half *= 2) {
      for (int64_t i = 0; i < even_; i += 2 * half) {
        for (int64_t j = i; j < i + half; ++j) {
          const float a = block[j], b = block[j + half];
          block[j] = a + b;
          block[j + half] = a - b;
        }
      }
    }
  }
  if (dense_.empty()) return;
  std::vector<double> in(static_cast<size_t>(odd_));
  for (int64_t i = 0; i < even_; ++i) {
    for (int64_t j = 0; j < odd_; ++j) in[static_cast<size_t>(j)] = x[j * even_ + i];
    for (int64_t k = 0; k < odd_; ++k) {
      double sum = 0;
      for (int64_t j = 0; j < odd_; ++j)
        sum += in[static_cast<size_t>(j)] * dense_[static_cast<size_t>(j * odd_ + k)];
      x[k * even_ + i] = static_cast<float>(sum);
    }
  }
}

Rotations RotationsOf(const ModelConfig& config) {
  if (config.tied_embeddings) {
    return {.why_not =
                "the output is the embedding, and the last norm's weights can go into the output alone"};
  }
  if (FindRow(*config.arch, Slot::kPostAttnNorm) != nullptr ||
      FindRow(*config.arch, Slot::kPostFfnNorm) != nullptr) {
    return {.why_not = "norms stand between the layers and the residual stream"};
  }
  return {.residual = true, .why_not = ""};
}

Status WriteRotatedGguf(const ExportPlan& plan, const ModelConfig& config, uint64_t seed,
                        const std::string& path, ThreadPool& pool, const ProgressFn& progress) {
  RETURN_IF_ERROR(CheckOutputFile(plan.source.path, path));
  const Rotator rotator(plan, config, seed);
  std::vector<TensorDeclaration> declarations;
  std::vector<Fold> folds;
  uint64_t total = 0;
  for (const ExportTensor& t : plan.tensors) {
    declarations.push_back({t.name, t.type, t.shape()});
    total += folds.emplace_back(rotator.FoldOf(t)).empty()
                 ? t.source.bytes.size()
                 : static_cast<uint64_t>(t.source.n_elements()) * sizeof(float);
  }
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, plan.metadata, declarations));
  TensorStreamer streamer(pool, progress, "rotate", plan.source.path, total);
  const auto sink = [&](std::span<const uint8_t> bytes) { return writer.Write(bytes); };
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const ExportTensor& t = plan.tensors[i];
    ExportTensor rotated = t;
    std::vector<float> w;
    if (!folds[i].empty()) {
      w = Decode(t);
      const bool vector = t.shape().size() == 1;
      Apply(folds[i], vector ? t.source.row_size() : t.source.n_rows(), vector ? 1 : t.source.row_size(),
            pool, w);
      rotated = {.name = t.name, .type = t.type, .wanted = t.wanted, .source = t.source};
      rotated.source.type = WeightType::kF32;
      rotated.source.bytes = {reinterpret_cast<const uint8_t*>(w.data()), w.size() * sizeof(float)};
    }
    RETURN_IF_ERROR(streamer.Write(rotated, {}, sink));
  }
  return writer.Finish();
}

}  // namespace thimble

// What rounding with feedback leaves to gain in T2 to T5: the cost of a tensor (the trace of E H E^T) after
// each of three refinements, as a share of the cost before.
//
//   ring_refinements MODEL.gguf TYPE[,TYPE...] TENSOR...
//
//   scales  the scale of each block where it costs least, in four rounds; codes stay as they are
//   tables  the 32 entries of the tables by least squares for the tensor; codes and scales stay as they are
//   again   every block rounded once more, now that the errors of the blocks after it are known too
//
// Of at most 192 rows of each tensor. Calibrates as `thimble quantize --method gptq` does, in the same cache.
#include <fmt/core.h>

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "codec/codec.h"
#include "codec/ring_search.h"
#include "formats/model_file.h"
#include "model/model.h"
#include "quant/calibrated_rounding.h"
#include "quant/calibration_file.h"
#include "quant/calibration_text.h"
#include "quant/export_plan.h"
#include "quant/ring_rounding.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

constexpr int64_t kMaxRows = 192;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// H + damping in the rings' order, and of each block what RoundRingBlock wants of it.
struct RingHessian {
  int64_t n;
  std::vector<float> h;
  std::vector<HessianFactor> blocks;

  RingHessian(ThreadPool& pool, const Hessian& hessian) : n(hessian.n), h(static_cast<size_t>(n * n)) {
    const double damping = 0.01 * hessian.trace() / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const int64_t a = ColumnAt(ColumnOrder::kRings, i), b = ColumnAt(ColumnOrder::kRings, j);
        const double value = hessian.h[static_cast<size_t>(std::max(a, b) * n + std::min(a, b))];
        h[static_cast<size_t>(i * n + j)] = static_cast<float>(value + (i == j ? damping : 0));
      }
    }
    for (int64_t begin = 0; begin < n; begin += kRingBlock) {
      Hessian block(std::min<int64_t>(kRingBlock, n - begin));
      for (int64_t i = 0; i < block.n; ++i)
        std::copy_n(row(begin + i) + begin, block.n, block.h.data() + i * block.n);
      blocks.push_back(Factorize(pool, Kernels(), block, ColumnOrder::kAscending, 1e-6f).value());
    }
  }
  const float* row(int64_t i) const { return h.data() + i * n; }
  int size(size_t block) const { return static_cast<int>(blocks[block].n); }
};

// The row that was rounded, in the rings' order.
struct Row {
  const RingHessian& hessian;
  std::vector<float> own, points;      // weights; what they decode to, without the scale
  std::vector<int> scales;             // codes, by block
  std::vector<float> error, gradient;  // own - decoded; H times it

  Row(const RingHessian& hessian, WeightType type, const std::vector<float>& weights, const uint8_t* rounded)
      : hessian(hessian), own(weights.size()), points(own), error(own), gradient(own) {
    std::vector<float> decoded(weights.size());
    DecodeRow(type, rounded, decoded.data(), hessian.n);
    for (size_t b = 0; b < hessian.blocks.size(); ++b)
      scales.push_back(rounded[b * RowBytes(type, kRingBlock)]);
    for (size_t i = 0; i < own.size(); ++i) {
      const auto column = static_cast<size_t>(ColumnAt(ColumnOrder::kRings, static_cast<int64_t>(i)));
      own[i] = weights[column];
      points[i] = decoded[column] / TrellisScale(static_cast<uint8_t>(scales[i / kRingBlock]));
      error[i] = own[i] - decoded[column];
    }
    for (size_t i = 0; i < own.size(); ++i) {
      const float* h = hessian.row(static_cast<int64_t>(i));
      gradient[i] = static_cast<float>(std::inner_product(error.begin(), error.end(), h, 0.0));
    }
  }
  double Cost() const { return std::inner_product(error.begin(), error.end(), gradient.begin(), 0.0); }

  // Adds changes [size of the block] to the block's errors.
  void Move(size_t block, const float* changes) {
    const size_t begin = block * kRingBlock;
    const int size = hessian.size(block);
    for (int i = 0; i < size; ++i) error[begin + i] += changes[i];
    for (size_t i = 0; i < gradient.size(); ++i) {
      const float* h = hessian.row(static_cast<int64_t>(i)) + begin;
      gradient[i] += std::inner_product(changes, changes + size, h, 0.0f);
    }
  }

  void RefitScales() {
    for (size_t b = 0; b < scales.size(); ++b) {
      const size_t begin = b * kRingBlock;
      const int size = hessian.size(b);
      const float* q = points.data() + begin;
      double linear = 0, square = 0;
      for (int i = 0; i < size; ++i) {
        linear += q[i] * gradient[begin + i];
        square +=
            q[i] * std::inner_product(q, q + size, hessian.row(static_cast<int64_t>(begin) + i) + begin, 0.0);
      }
      const double scale = TrellisScale(static_cast<uint8_t>(scales[b]));
      const int code = TrellisCode(static_cast<float>(scale + linear / square));
      const auto change = static_cast<float>(TrellisScale(static_cast<uint8_t>(code)) - scale);
      if (change * (change * square - 2 * linear) >= 0) continue;
      scales[b] = code;
      float changes[kRingBlock];
      for (int i = 0; i < size; ++i) changes[i] = -change * q[i];
      Move(b, changes);
    }
  }

  void RoundAgain(WeightType type) {
    for (size_t b = 0; b < scales.size(); ++b) {
      const size_t begin = b * kRingBlock;
      const int size = hessian.size(b);
      const HessianFactor& factor = hessian.blocks[b];
      // What the other blocks' errors do to the gradient here, then where that moves the weights' targets.
      double outer[kRingBlock], moved[kRingBlock];
      const auto within = [&](int i, const float* e) {
        return std::inner_product(e, e + size, hessian.row(static_cast<int64_t>(begin) + i) + begin, 0.0);
      };
      for (int i = 0; i < size; ++i) outer[i] = gradient[begin + i] - within(i, error.data() + begin);
      float target[kRingBlock], errors[kRingBlock], changes[kRingBlock];
      for (int i = size - 1; i >= 0; --i) {
        moved[i] = outer[i];
        for (int j = i + 1; j < size; ++j)
          moved[i] -= factor.feedback[j * size + i] * factor.diagonal[j] * moved[j];
        moved[i] /= factor.diagonal[i];
        target[i] = own[begin + i] + static_cast<float>(moved[i]) / factor.diagonal[i];
      }
      uint8_t out[kRingBlock];
      RoundRingBlock(type, size, own.data() + begin, target, factor.Columns(0), out, errors);
      double before = 0, after = 0;
      for (int i = 0; i < size; ++i) {
        before += error[begin + i] * (within(i, error.data() + begin) + 2 * outer[i]);
        after += errors[i] * (within(i, errors) + 2 * outer[i]);
        changes[i] = errors[i] - error[begin + i];
      }
      if (after < before) Move(b, changes);
    }
  }

  // The normal equations of changes to the 32 entries of the tables, with the right side as column 32 and the
  // cost last.
  Matrix TableEquations(int bits, int ahead, const uint8_t* rounded, size_t block_bytes) const {
    constexpr Eigen::Index kEntries = 32, kAll = kEntries + 1;
    std::vector<std::array<Eigen::Index, 2>> entries(own.size());
    std::vector<double> scale(own.size());
    for (size_t i = 0; i < own.size(); ++i) {
      const uint8_t* codes = rounded + i / kRingBlock * block_bytes + 1 + i % kRingBlock / kRing * 4 * bits;
      const auto nibble = [&](int from) {
        Eigen::Index value = 0;
        for (int k = 0; k < 4; ++k) {
          const int bit = (from + k) % (kRing * bits);
          value |= static_cast<Eigen::Index>(codes[bit / 8] >> (bit % 8) & 1) << k;
        }
        return value;
      };
      const int s = static_cast<int>(i % kRing);
      entries[i] = {nibble(bits * s), 16 + nibble(bits * s + ahead)};
      scale[i] = TrellisScale(static_cast<uint8_t>(scales[i / kRingBlock]));
    }
    Matrix equations = Matrix::Zero(kAll, kAll);
    for (size_t i = 0; i < own.size(); ++i) {
      Eigen::RowVectorXd products = Eigen::RowVectorXd::Zero(kAll);
      const float* h = hessian.row(static_cast<int64_t>(i));
      for (size_t j = 0; j < own.size(); ++j) {
        for (const Eigen::Index entry : entries[j]) products[entry] += h[j] * scale[j];
      }
      products[kEntries] = gradient[i];
      for (const Eigen::Index entry : entries[i]) equations.row(entry) += scale[i] * products;
      equations.row(kEntries) += error[i] * products;
    }
    return equations;
  }
};

// What the solution of the equations takes off the cost.
double LeastSquaresGain(Matrix equations) {
  const Eigen::Index n = equations.rows() - 1;
  equations.diagonal().head(n).array() += 1e-6 * equations(0, 0);
  const Eigen::VectorXd right = equations.topRightCorner(n, 1);
  return right.dot(equations.topLeftCorner(n, n).llt().solve(right));
}

void Report(const ExportTensor& tensor, WeightType type, const LayerStatistics& statistics,
            const HessianFactor& factor, const RingHessian& hessian, ThreadPool& pool) {
  const int bits = static_cast<int>(type) - static_cast<int>(WeightType::kT2) + 2;
  const int ahead = type == WeightType::kT3 ? Trellis<3>::kAhead : Trellis<2>::kAhead;
  const size_t row_bytes = RowBytes(type, hessian.n);
  const int64_t all = tensor.source.n_rows(), rows = std::min(all, kMaxRows);
  std::vector<uint8_t> rounded(static_cast<size_t>(all) * row_bytes);
  MeasureRounding(tensor, type, RoundingMethod::kGptq, statistics, factor, pool, all, rounded.data());
  struct Costs {
    double before, scales, again;
    Matrix tables;
  };
  std::vector<Costs> costs(static_cast<size_t>(rows));
  pool.ParallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<float> weights(static_cast<size_t>(hessian.n));
    for (int64_t r = begin; r < end; ++r) {
      ReadRow(tensor, r, weights.data());
      const uint8_t* const from = rounded.data() + static_cast<size_t>(r) * row_bytes;
      const Row row(hessian, type, weights, from);
      Costs& cost = costs[static_cast<size_t>(r)];
      cost.before = row.Cost();
      cost.tables = row.TableEquations(bits, ahead, from, RowBytes(type, kRingBlock));
      Row refitted = row, again = row;
      for (int round = 0; round < 4; ++round) refitted.RefitScales();
      cost.scales = refitted.Cost();
      again.RoundAgain(type);
      cost.again = again.Cost();
    }
  });
  Costs sum = {0, 0, 0, Matrix::Zero(costs.front().tables.rows(), costs.front().tables.cols())};
  for (const Costs& cost : costs) {
    sum.before += cost.before;
    sum.scales += cost.scales;
    sum.again += cost.again;
    sum.tables += cost.tables;
  }
  fmt::print("| {} | {} | {:.4f} | {:.4f} | {:.4f} |\n", tensor.name, Name(type), sum.scales / sum.before,
             1 - LeastSquaresGain(sum.tables) / sum.before, sum.again / sum.before);
  std::fflush(stdout);
}

Status Run(const std::string& path, const std::string& types, const std::vector<std::string>& names) {
  ThreadPool pool(0);
  const Context ctx = {.pool = pool};
  ASSIGN_OR_RETURN(ModelFile file, OpenModelFile(path));
  ASSIGN_OR_RETURN(const ExportPlan plan, PlanFromModelFile(std::move(file)));
  ASSIGN_OR_RETURN(const auto model, Model::Load(path));
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(model->file()));
  ASSIGN_OR_RETURN(const auto chat_template, LoadChatTemplate(tokenizer, path));
  CalibrationOptions options;
  ASSIGN_OR_RETURN(options.texts, DefaultTexts());
  ASSIGN_OR_RETURN(
      const CachedCalibration calibrated,
      CalibrateOrLoad(ctx, *model, tokenizer, chat_template ? &*chat_template : nullptr, options, {}));
  fmt::print("| tensor | type | scales | tables | again |\n|---|---|---|---|---|\n");
  for (const std::string& name : names) {
    const auto tensor = std::find_if(plan.tensors.begin(), plan.tensors.end(),
                                     [&](const ExportTensor& t) { return t.name == name; });
    if (tensor == plan.tensors.end() || !calibrated.calibration.Has(name)) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: no matrix of the model", name);
    }
    ASSIGN_OR_RETURN(const LayerStatistics statistics, calibrated.calibration.Read(name));
    ASSIGN_OR_RETURN(const HessianFactor factor,
                     Factorize(pool, Kernels(), statistics.hessian, ColumnOrder::kRings));
    const RingHessian hessian(pool, statistics.hessian);
    std::stringstream list(types);
    for (std::string type; std::getline(list, type, ',');) {
      const auto parsed = ParseWeightType(type);
      if (!parsed || !IsNative(*parsed)) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: not one of T2, T3, T4, T5", type);
      }
      Report(*tensor, *parsed, statistics, factor, hessian, pool);
    }
  }
  return {};
}

}  // namespace
}  // namespace thimble

int main(int argc, char** argv) {
  if (argc < 4) {
    fmt::print(stderr, "usage: ring_refinements MODEL.gguf TYPE[,TYPE...] TENSOR...\n");
    return 2;
  }
  const thimble::Status status = thimble::Run(argv[1], argv[2], {argv + 3, argv + argc});
  if (!status) fmt::print(stderr, "ring_refinements: {}\n", status.error().message);
  return status ? 0 : 1;
}

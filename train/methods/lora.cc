#include "train/methods/lora.h"

#include <cmath>

#include "base/random.h"
#include "ops/elementwise.h"

namespace thimble {
namespace {

void DecodeRow(const Weight& w, int64_t i, float* out) {
  Kernels().decode_row[static_cast<int>(w.type)](w.row(i), out, w.n_in);
}

}  // namespace

Status Lora::Initialize(const Context& ctx, uint64_t seed) {
  RETURN_IF_ERROR(ChooseTargets(AllLinearSlots()));
  Random random(seed);
  const auto rank = static_cast<double>(options_.rank);
  const bool starts = options_.start != LoraStart::kZero;
  for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
    for (const Slot slot : targets()) {
      const Weight& w = weight(layer, slot);
      if (options_.rank < 1 || options_.rank > std::min(w.n_in, w.n_out) - (starts ? 1 : 0)) {
        return MakeError(ErrorCode::kInvalidArgument, "rank {} does not fit {} [{}, {}]", options_.rank,
                         w.name, w.n_out, w.n_in);
      }
      AdapterModule& m = module(layer, slot);
      m.a = Uniform(options_.rank, w.n_in, 1 / std::sqrt(static_cast<double>(w.n_in)), random);
      m.b = Tensor::Zeros(w.n_out, options_.rank);
      m.scale = static_cast<float>(options_.alpha / (options_.rslora ? std::sqrt(rank) : rank));
      const std::string name = ModuleName(layer, slot);
      AddParameter({.name = name + ".lora_A.weight", .shape = {options_.rank, w.n_in}, .value = m.a});
      AddParameter({.name = name + ".lora_B.weight",
                    .shape = {w.n_out, options_.rank},
                    .value = m.b,
                    .order = PeftRowOrder(model_, slot),
                    .n_rows = w.n_out,
                    .learning_rate = options_.loraplus_lr_ratio});
    }
  }
  if (options_.start != LoraStart::kResidual) return {};
  RETURN_IF_ERROR(CheckUnquantized());
  return StartFrom(ctx, [&](int64_t layer, Slot slot) { return Residual(layer, slot); });
}

Status Lora::StartFrom(const Context& ctx, const std::function<Tensor(int64_t, Slot)>& matrix) {
  for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
    std::vector<ErrorNorm> norms(targets().size());
    for (size_t i = 0; options_.norm && i < targets().size(); ++i) {
      ASSIGN_OR_RETURN(norms[i], options_.norm(layer, targets()[i]));
    }
    ctx.pool.ParallelFor(static_cast<int64_t>(targets().size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const Slot slot = targets()[static_cast<size_t>(i)];
        AdapterModule& m = module(layer, slot);
        const LowRank found =
            NearestLowRank(matrix(layer, slot), options_.rank, norms[static_cast<size_t>(i)]);
        std::copy_n(found.a.data(), found.a.size(), m.a.data());
        std::copy_n(found.b.data(), found.b.size(), m.b.data());
        ScaleInPlace(m.a, 1 / std::sqrt(m.scale));
        ScaleInPlace(m.b, 1 / std::sqrt(m.scale));
      }
    });
  }
  return {};
}

Tensor Lora::Decoded(int64_t layer, Slot slot) const {
  const Weight& w = weight(layer, slot);
  Tensor matrix = Tensor::Empty(w.n_out, w.n_in);
  for (int64_t i = 0; i < w.n_out; ++i) DecodeRow(w, i, matrix.row(i));
  return matrix;
}

Status Lora::CheckUnquantized() const {
  CHECK(options_.unquantized != nullptr);
  const Model& other = *options_.unquantized;
  const auto differs = [&](const std::string& what) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is not {} before rounding: {} differs",
                     other.file().path, model_.file().path, what);
  };
  if (other.config().arch != model_.config().arch) return differs("the architecture");
  if (other.config().n_layers != model_.config().n_layers) return differs("the number of layers");
  for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
    for (const Slot slot : targets()) {
      const Weight &mine = weight(layer, slot),
                   &its = other.layers()[static_cast<size_t>(layer)].weight(slot);
      if (mine.n_in != its.n_in || mine.n_out != its.n_out) return differs(mine.name);
    }
  }
  return {};
}

Tensor Lora::Residual(int64_t layer, Slot slot) const {
  const Weight& w = options_.unquantized->layers()[static_cast<size_t>(layer)].weight(slot);
  const RowOrder mine = PeftRowOrder(model_, slot), its = PeftRowOrder(*options_.unquantized, slot);
  const Tensor rounded = Decoded(layer, slot);
  Tensor residual = Tensor::Empty(w.n_out, w.n_in);
  for (int64_t i = 0; i < w.n_out; ++i) {
    float* const row = residual.row(mine(i));
    DecodeRow(w, its(i), row);
    for (int64_t j = 0; j < w.n_in; ++j) row[j] -= rounded.row(mine(i))[j];
  }
  return residual;
}

Json Lora::Config() const {
  PeftLoraConfig config;
  config.r = options_.rank;
  config.lora_alpha = options_.alpha;
  config.lora_dropout = options_.dropout;
  config.use_rslora = options_.rslora;
  config.target_modules = TargetNames();
  return ToJson(config);
}

std::unique_ptr<Method> MakeLora(const Model& model, const PeftOptions& options) {
  if (options.start == LoraStart::kPissa) return MakePissa(model, options);
  return std::make_unique<Lora>(model, options);
}

}  // namespace thimble

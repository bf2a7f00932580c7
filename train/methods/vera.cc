// VeRA (Kopiczko et al. 2024): y + b * B (d * A x) with random A and B that all layers share, frozen, and two
// trained vectors per layer. Layers take the first columns of A and the first rows of B.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/random.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

class Vera : public Method {
 public:
  Vera(const Model& model, const PeftOptions& options) : Method(model, options) {}

  Status Initialize(uint64_t seed) {
    RETURN_IF_ERROR(ChooseTargets(AllLinearSlots()));
    int64_t n_in = 0, n_out = 0;
    for (const Slot slot : targets()) {
      n_in = std::max(n_in, weight(0, slot).n_in);
      n_out = std::max(n_out, weight(0, slot).n_out);
    }
    if (options_.rank < 1) {
      return MakeError(ErrorCode::kInvalidArgument, "rank {} is less than 1", options_.rank);
    }
    Random random(seed);
    a_ = RandomMatrix(options_.rank, n_in, random);
    b_ = RandomMatrix(n_out, options_.rank, random);
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (const Slot slot : targets()) {
        const int64_t rows = weight(layer, slot).n_out;
        AdapterModule& m = module(layer, slot);
        m.rank_scale = Tensor::Empty(1, options_.rank);
        std::fill_n(m.rank_scale.data(), options_.rank, 0.1f);  // section 4.1, and PEFT's d_initial
        m.delta_scale = Tensor::Zeros(1, rows);
        const std::string name = ModuleName(layer, slot);
        AddParameter({.name = name + ".vera_lambda_d", .shape = {options_.rank}, .value = m.rank_scale});
        AddParameter({.name = name + ".vera_lambda_b",
                      .shape = {rows},
                      .value = m.delta_scale,
                      .order = PeftRowOrder(model_, slot),
                      .n_rows = rows});
      }
    }
    Share();
    return {};
  }

 protected:
  std::vector<FrozenTensor> Frozen() const override {
    return {{"base_model.vera_A", a_}, {"base_model.vera_B", b_}};
  }
  void OnFrozenLoaded() override { Share(); }
  Json Config() const override {
    return {{"peft_type", "VERA"},     {"r", options_.rank},       {"target_modules", TargetNames()},
            {"vera_dropout", 0.0},     {"d_initial", 0.1},         {"bias", "none"},
            {"save_projection", true}, {"projection_prng_key", 0}, {"fan_in_fan_out", false}};
  }

 private:
  // Kaiming-uniform, as PEFT's.
  static Tensor RandomMatrix(int64_t rows, int64_t cols, Random& random) {
    const Tensor t = Tensor::Empty(rows, cols);
    const double bound = std::sqrt(3.0 / static_cast<double>(cols));
    for (int64_t i = 0; i < t.size(); ++i) {
      t.data()[i] = static_cast<float>((2 * random.Uniform() - 1) * bound);
    }
    return t;
  }

  void Share() { ShareVeraMatrices(model_, a_, b_, adapter_); }

  Tensor a_, b_;
};

}  // namespace

Result<std::unique_ptr<Method>> CreateVera(const Model& model, const PeftOptions& options, uint64_t seed) {
  auto method = std::make_unique<Vera>(model, options);
  RETURN_IF_ERROR(method->Initialize(seed));
  return method;
}

}  // namespace thimble

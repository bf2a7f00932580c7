// VeRA (Kopiczko et al. 2024): y + b * B (d * A x) with random A and B that all layers share, frozen, and two
// trained vectors per layer. Layers take the first columns of A and the first rows of B.
#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

class Vera : public Method {
 public:
  using Method::Method;

  Status Initialize(const Context& /*ctx*/, uint64_t seed) override {
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
    // Kaiming-uniform, as PEFT's.
    const auto bound = [](int64_t cols) { return std::sqrt(3.0 / static_cast<double>(cols)); };
    a_ = Uniform(options_.rank, n_in, bound(n_in), random);
    b_ = Uniform(n_out, options_.rank, bound(options_.rank), random);
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
    ShareVeraMatrices(model_, a_, b_, adapter_);
    return {};
  }

  Status Load(const std::string& directory) override {
    RETURN_IF_ERROR(Method::Load(directory));
    ShareVeraMatrices(model_, a_, b_, adapter_);
    return {};
  }

 protected:
  std::vector<Parameter> Saved() const override {
    std::vector<Parameter> saved = parameters();
    saved.push_back({.name = "base_model.vera_A", .shape = {a_.rows(), a_.cols()}, .value = a_});
    saved.push_back({.name = "base_model.vera_B", .shape = {b_.rows(), b_.cols()}, .value = b_});
    return saved;
  }
  Json Config() const override {
    return {{"peft_type", "VERA"},     {"r", options_.rank},       {"target_modules", TargetNames()},
            {"vera_dropout", 0.0},     {"d_initial", 0.1},         {"bias", "none"},
            {"save_projection", true}, {"projection_prng_key", 0}, {"fan_in_fan_out", false}};
  }

 private:
  Tensor a_, b_;
};

}  // namespace

std::unique_ptr<Method> MakeVera(const Model& model, const PeftOptions& options) {
  return std::make_unique<Vera>(model, options);
}

}  // namespace thimble

// IA3 (Liu et al. 2022): factors, 1 at first, on keys, values and what goes into the feed-forward's last
// layer.
#include <algorithm>

#include "train/methods/methods.h"

namespace thimble {
namespace {

class Ia3 : public Method {
 public:
  using Method::Method;

  Status Initialize(const Context& /*ctx*/, uint64_t /*seed*/) override {
    constexpr Slot kUsual[] = {Slot::kK, Slot::kV, Slot::kDown};
    RETURN_IF_ERROR(ChooseTargets(kUsual));
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (const Slot slot : targets()) {
        const bool is_input = slot == Slot::kDown;
        const int64_t n = is_input ? weight(layer, slot).n_in : weight(layer, slot).n_out;
        AdapterModule& m = module(layer, slot);
        Tensor& scale = is_input ? m.in_scale : m.out_scale;
        m.scales_bias = true;
        scale = Tensor::Empty(1, n);
        std::fill_n(scale.data(), n, 1.0f);
        Parameter parameter{.name = ModuleName(layer, slot) + ".ia3_l", .shape = {1, n}, .value = scale};
        if (!is_input) {
          parameter.shape = {n, 1};
          parameter.order = PeftRowOrder(model_, slot);
          parameter.n_rows = n;
        }
        AddParameter(std::move(parameter));
      }
    }
    return {};
  }

 protected:
  Json Config() const override {
    Json feedforward = Json::array();
    if (std::ranges::count(targets(), Slot::kDown) > 0) {
      feedforward.push_back(ShortModuleName(*model_.config().arch, Slot::kDown));
    }
    return {{"peft_type", "IA3"},
            {"target_modules", TargetNames()},
            {"feedforward_modules", feedforward},
            {"fan_in_fan_out", false},
            {"init_ia3_weights", true}};
  }
};

}  // namespace

std::unique_ptr<Method> MakeIa3(const Model& model, const PeftOptions& options) {
  return std::make_unique<Ia3>(model, options);
}

}  // namespace thimble

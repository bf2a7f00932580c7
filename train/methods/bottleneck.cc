// Bottleneck adapters (Houlsby et al. 2019): y + U relu(D y + d) + u after the attention and after the
// feed-forward network, or, with one of these as target module, only there (Pfeiffer et al. 2021). At first U
// and u are zero.
#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

class Bottleneck : public Method {
 public:
  using Method::Method;

  Status Initialize(const Context& /*ctx*/, uint64_t seed) override {
    constexpr Slot kUsual[] = {Slot::kO, Slot::kDown};
    RETURN_IF_ERROR(ChooseTargets(kUsual));
    for (const Slot slot : targets()) {
      if (std::ranges::count(kUsual, slot) > 0) continue;
      return MakeError(ErrorCode::kInvalidArgument,
                       "bottleneck adapters stand after o_proj and down_proj only");
    }
    Random random(seed);
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (const Slot slot : targets()) {
        const int64_t n = weight(layer, slot).n_out, size = options_.bottleneck_size;
        AdapterModule& m = module(layer, slot);
        m.down = Uniform(size, n, 1 / std::sqrt(static_cast<double>(n)), random);
        m.down_bias = Tensor::Zeros(1, size);
        m.up = Tensor::Zeros(n, size);
        m.up_bias = Tensor::Zeros(1, n);
        const std::string name = ModuleName(layer, slot);
        AddParameter({.name = name + ".adapter_down.weight", .shape = {size, n}, .value = m.down});
        AddParameter({.name = name + ".adapter_down.bias", .shape = {size}, .value = m.down_bias});
        AddParameter({.name = name + ".adapter_up.weight", .shape = {n, size}, .value = m.up});
        AddParameter({.name = name + ".adapter_up.bias", .shape = {n}, .value = m.up_bias});
      }
    }
    return {};
  }

 protected:
  Json Config() const override {
    return {{"peft_type", "BOTTLENECK"},
            {"bottleneck_size", options_.bottleneck_size},
            {"non_linearity", "relu"},
            {"scaling", 1.0},
            {"target_modules", TargetNames()}};
  }
};

}  // namespace

std::unique_ptr<Method> MakeBottleneck(const Model& model, const PeftOptions& options) {
  return std::make_unique<Bottleneck>(model, options);
}

}  // namespace thimble

// BitFit (Ben Zaken et al. 2022): what is added to each linear layer's bias, or is one where it has none.
#include "train/methods/methods.h"

namespace thimble {
namespace {

class Bitfit : public Method {
 public:
  using Method::Method;

  Status Initialize(const Context& /*ctx*/, uint64_t /*seed*/) override {
    RETURN_IF_ERROR(ChooseTargets(AllLinearSlots()));
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (const Slot slot : targets()) {
        const int64_t n_out = weight(layer, slot).n_out;
        Tensor& bias = module(layer, slot).bias;
        bias = Tensor::Zeros(1, n_out);
        AddParameter({.name = ModuleName(layer, slot) + ".bias",
                      .shape = {n_out},
                      .value = bias,
                      .order = PeftRowOrder(model_, slot),
                      .n_rows = n_out});
      }
    }
    return {};
  }

 protected:
  Json Config() const override { return {{"peft_type", "BITFIT"}, {"target_modules", TargetNames()}}; }
};

}  // namespace

std::unique_ptr<Method> MakeBitfit(const Model& model, const PeftOptions& options) {
  return std::make_unique<Bitfit>(model, options);
}

}  // namespace thimble

// Prefix tuning (Li & Liang 2021) without the network that makes the prefix: keys and values before every
// text.
#include "base/random.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

class PrefixTuning : public Method {
 public:
  using Method::Method;

  // Normal with a deviation of 1, as PEFT's.
  Status Initialize(const Context& /*ctx*/, uint64_t seed) override {
    RETURN_IF_ERROR(ChooseTargets({}));
    const ModelConfig& c = model_.config();
    const int64_t width = c.n_kv_heads * c.head_dim, n = options_.n_virtual_tokens;
    adapter_.prefix = Tensor::Empty(n, c.n_layers * 2 * width);
    Random random(seed);
    for (int64_t i = 0; i < adapter_.prefix.size(); ++i) {
      adapter_.prefix.data()[i] = static_cast<float>(random.Normal());
    }
    AddParameter({.name = "prompt_embeddings",
                  .shape = {n, adapter_.prefix.cols()},
                  .value = adapter_.prefix,
                  .order = PeftPrefixOrder(model_),
                  .n_rows = adapter_.prefix.size()});
    return {};
  }

 protected:
  Json Config() const override {
    const ModelConfig& c = model_.config();
    return {{"peft_type", "PREFIX_TUNING"},
            {"num_virtual_tokens", options_.n_virtual_tokens},
            {"token_dim", c.n_kv_heads * c.head_dim},
            {"encoder_hidden_size", c.n_kv_heads * c.head_dim},
            {"num_layers", c.n_layers},
            {"num_attention_heads", c.n_kv_heads},
            {"num_transformer_submodules", 1},
            {"prefix_projection", false}};
  }
};

}  // namespace

std::unique_ptr<Method> MakePrefixTuning(const Model& model, const PeftOptions& options) {
  return std::make_unique<PrefixTuning>(model, options);
}

}  // namespace thimble

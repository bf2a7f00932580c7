// Prompt tuning (Lester et al. 2021): embeddings of tokens that are in no vocabulary stand before every text.
#include "base/random.h"
#include "ops/embedding.h"
#include "train/methods/methods.h"

namespace thimble {
namespace {

class PromptTuning : public Method {
 public:
  using Method::Method;

  // The embeddings of tokens that are drawn from the vocabulary: section 3.2, and PEFT's SAMPLE_VOCAB.
  Status Initialize(const Context& /*ctx*/, uint64_t seed) override {
    RETURN_IF_ERROR(ChooseTargets({}));
    const ModelConfig& c = model_.config();
    Random random(seed);
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < options_.n_virtual_tokens; ++i) {
      ids.push_back(static_cast<int32_t>(random.Below(static_cast<uint64_t>(c.vocab_size))));
    }
    ThreadPool pool(1);
    adapter_.prompt = Embedding({.pool = pool}, model_.embedding(), ids, c.embedding_scale());
    AddParameter({.name = "prompt_embeddings",
                  .shape = {options_.n_virtual_tokens, c.d_model},
                  .value = adapter_.prompt});
    return {};
  }

 protected:
  Json Config() const override {
    const ModelConfig& c = model_.config();
    return {{"peft_type", "PROMPT_TUNING"},     {"num_virtual_tokens", options_.n_virtual_tokens},
            {"token_dim", c.d_model},           {"num_layers", c.n_layers},
            {"num_attention_heads", c.n_heads}, {"num_transformer_submodules", 1},
            {"prompt_tuning_init", "RANDOM"}};
  }
};

}  // namespace

std::unique_ptr<Method> MakePromptTuning(const Model& model, const PeftOptions& options) {
  return std::make_unique<PromptTuning>(model, options);
}

}  // namespace thimble

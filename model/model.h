// A model bound to its weights, and its one forward pass.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/adapter_notes.h"
#include "formats/model_file.h"
#include "model/config.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/linear.h"

namespace thimble {

struct Layer {
  std::array<Weight, kNumLinearSlots> linear;  // by Slot; biases inside
  std::array<Tensor, kNumLinearSlots> bias;    // these and the norms [1, n]; unset where there is none
  std::array<Tensor, kNumNormSlots> norms;     // by NormIndex(Slot)

  const Weight& weight(Slot slot) const { return linear[static_cast<size_t>(slot)]; }
  const Tensor& norm(Slot slot) const { return norms[static_cast<size_t>(NormIndex(slot))]; }
};

// Weights point into the mapped file and are never copied, save what has to be changed on the way in.
class Model {
 public:
  static Result<std::unique_ptr<Model>> Load(const std::string& path);
  static Result<std::unique_ptr<Model>> Bind(ModelFile file);
  // With its matrices, biases and norms in F32 and in memory of their own, as trained weights.
  std::unique_ptr<Model> TrainableCopy() const;

  const ModelConfig& config() const { return config_; }
  const ModelFile& file() const { return file_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const Weight& embedding() const { return embedding_; }
  const Weight& output() const { return output_; }  // the embedding again where they are tied
  const Tensor& output_norm() const { return output_norm_; }
  // Angular frequencies of RoPE, [head_dim / 2].
  std::span<const double> rope_frequencies(bool local) const { return rope_frequencies_[local ? 1 : 0]; }

 private:
  friend class WeightBinder;
  Model() = default;
  Model(const Model&) = default;
  ModelFile file_;
  ModelConfig config_;
  std::vector<Layer> layers_;
  Weight embedding_, output_;
  Tensor output_norm_;
  std::array<std::vector<double>, 2> rope_frequencies_;
  std::vector<std::vector<float>> owned_;  // weights that could not stay in the file
};

// What one adapter does at one linear layer, in the row order of the bound model:
//   y = out_scale * (W x' + W's bias) + delta_scale * B (rank_scale * scale A x') + bias, x' = in_scale * x
//   y + U relu(D y + d) + u
// and what is unset is not there. LoRA has A and B; IA3 (Liu et al. 2022) has one of the scales. DoRA (Liu
// et al. 2024, equation 5) has magnitude / |W + scale B A|, row by row, in out_scale and multiplied into B.
// VeRA (Kopiczko et al. 2024) has rank_scale and delta_scale, and A and B that modules share. BitFit (Ben
// Zaken et al. 2022) has the bias. Bottleneck adapters (Houlsby et al. 2019) have D, d, U and u.
struct AdapterModule {
  Tensor a, b;  // [r, n_in], [n_out, r]
  float scale = 1;
  Tensor in_scale, out_scale;      // [1, n_in], [1, n_out]
  bool scales_bias = false;        // IA3's out_scale does, DoRA's does not
  Tensor rank_scale, delta_scale;  // [1, r], [1, n_out]: both or none
  Tensor bias;                     // [1, n_out]
  Tensor down, down_bias;          // D and d: [bottleneck, n_out], [1, bottleneck]
  Tensor up, up_bias;              // U and u: [n_out, bottleneck], [1, n_out]

  bool is_lora() const {
    return a && !in_scale && !out_scale && !rank_scale && !bias && !down;
  }  // and nothing else
  bool empty() const { return !a && !in_scale && !out_scale && !rank_scale && !bias && !down; }
};

struct Adapter {
  std::string name;
  AdapterNotes notes = {};                                         // its file's
  std::vector<std::array<AdapterModule, kNumLinearSlots>> layers;  // unset tensors where it has no module
  // What stands before every text (of several adapters: all prefixes, then all prompts): embeddings of tokens
  // that are in no vocabulary (prompt tuning, Lester et al. 2021), [n_virtual, d_model]; or, layer by layer,
  // their keys and then their values (prefix tuning, Li & Liang 2021), [n_virtual, n_layers * 2 * n_kv_heads
  // * head_dim]. RoPE is not applied to these keys.
  Tensor prompt, prefix;
  // What stands in the place of the layers' norms (by layer and NormIndex) and of the output's; empty or
  // unset where these are the model's own (norm tuning, Qi et al. 2022).
  std::vector<std::array<Tensor, kNumNormSlots>> norms;
  Tensor output_norm;

  int64_t n_virtual() const { return prompt ? prompt.rows() : prefix ? prefix.rows() : 0; }
  bool is_lora() const;  // and nothing else
};

// Adapters are applied unmerged, one after the other.
struct AppliedAdapter {
  const Adapter* adapter = nullptr;
  float scale = 1;    // of the difference that each module makes
  float dropout = 0;  // training only
  uint64_t seed = 0;  // of the dropout masks of this step
};

// Keys and values of one sequence, in any of the cache's types. Memory is taken a block of positions (for all
// layers) at a time, when the sequence gets there, and kept.
class KvCache {
 public:
  // The types must fit the model: Check.
  KvCache(const ModelConfig& config, int64_t capacity, KvTypes types = {});
  static Status Check(const ModelConfig& config, KvTypes types);
  static size_t BytesPerToken(const ModelConfig& config, KvTypes types);

  KvTypes types() const { return format_.types; }
  int64_t capacity() const { return capacity_; }
  int64_t length() const { return length_; }
  void Truncate(int64_t length);  // forgets positions from `length` on
  size_t bytes() const;           // taken so far

 private:
  friend Tensor ForwardHidden(const Context&, const Model&, const struct ForwardInput&);
  friend Tensor RunLayers(const Context&, const Model&, const struct ForwardInput&, const Tensor&);
  friend KvCache StartSequence(const Context&, const Model&, std::span<const AppliedAdapter>, int64_t,
                               KvTypes);
  friend struct ForwardState;
  void Reserve(int64_t length);
  KvBlocks layer(int64_t i) const;

  KvFormat format_;
  int64_t n_layers_, capacity_, length_ = 0;
  std::vector<Tensor> memory_;  // a block each, of no type of its own
  std::vector<uint8_t*> blocks_;
};

// Sees what goes into the linear layers of a forward pass, and the gradients of what comes out.
struct LayerObserver {
  virtual ~LayerObserver() = default;
  // x [tokens, n_in] goes into the linear layers `slots` of layer `layer`.
  virtual void OnInput(int64_t /*layer*/, std::span<const Slot> /*slots*/, const Tensor& /*x*/) {}
  // With a tape, in the backward pass: y [tokens, n_out], which x gave, has its whole gradient.
  virtual void OnGradient(int64_t /*layer*/, Slot /*slot*/, const Tensor& /*x*/, const Tensor& /*y*/) {}
  // Likewise, last: x [tokens, d_model], the embeddings of the tokens as they go into the first layer.
  virtual void OnEmbeddingGradient(std::span<const int32_t> /*tokens*/, const Tensor& /*x*/) {}
};

struct ForwardInput {
  std::span<const int32_t> tokens;  // ids in range (CHECKed)
  // Without a cache: the lengths of the sequences that stand one after another in `tokens`, each starting at
  // position 0 and blind to the others; empty means one sequence.
  std::span<const int64_t> lengths = {};
  // With a cache: one sequence that goes on where the cache ends; needs room (CHECKed). What adapters put
  // before a text is in it already: StartSequence.
  KvCache* cache = nullptr;
  std::span<const AppliedAdapter> adapters = {};
  // Training: keep only each layer's input and run the layer again in the backward pass (Chen et al. 2016).
  bool checkpoint = false;
  LayerObserver* observer = nullptr;  // without `checkpoint` (CHECKed)
};

// Hidden states after the output norm, [tokens, d_model].
Tensor ForwardHidden(const Context& ctx, const Model& model, const ForwardInput& input);
// A cache with room for n_tokens after what the adapters put before every text, which it holds.
KvCache StartSequence(const Context& ctx, const Model& model, std::span<const AppliedAdapter> adapters,
                      int64_t n_tokens, KvTypes types);
// Logits [rows, vocab_size] of hidden states.
Tensor Logits(const Context& ctx, const Model& model, const Tensor& hidden);

}  // namespace thimble

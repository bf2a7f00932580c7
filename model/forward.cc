// The forward pass, for generation, evaluation and training alike.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <ranges>

#include "base/check.h"
#include "model/model.h"
#include "ops/embedding.h"
#include "ops/norm.h"
#include "ops/prepend.h"

namespace thimble {

// What all layers of one pass share.
struct ForwardState {
  const Model& model;
  std::span<const AppliedAdapter> adapters;
  KvCache* cache = nullptr;
  LayerObserver* observer = nullptr;
  std::vector<int64_t> lengths;            // of the sequences; none with a cache
  std::vector<AttentionSegment> segments;  // likewise
  RopeTable rope, rope_local;

  // Linear layers with the same input, with what the adapters add to them.
  template <size_t n>
  std::array<Tensor, n> Apply(const Context& ctx, int64_t layer, const Slot (&slots)[n],
                              const LinearInput& input) const {
    const Weight* weights[n];
    for (size_t i = 0; i < n; ++i) weights[i] = &model.layers()[layer].weight(slots[i]);
    std::array<Tensor, n> y, scaled;  // scaled: inputs that adapters change
    if (HasLoraAlone(layer, slots)) {
      Linear(ctx, weights, input, y, Loras(layer, slots));
      return y;
    }
    const LinearInput x = adapters.empty() && observer == nullptr ? input : input.Whole(ctx);
    bool any_scaled = false;
    for (size_t i = 0; i < n && !adapters.empty(); ++i) {
      scaled[i] = ScaledInput(ctx, layer, slots[i], x.Whole(ctx));
      any_scaled |= static_cast<bool>(scaled[i]);
    }
    if (!any_scaled) {
      Linear(ctx, weights, x, y);
    } else {
      for (size_t i = 0; i < n; ++i) {
        const Weight* one[] = {weights[i]};
        Linear(ctx, one, scaled[i] ? LinearInput(scaled[i]) : x, std::span(&y[i], 1));
      }
    }
    if (observer != nullptr) Observe(ctx, layer, slots, x.Whole(ctx), y);
    for (const AppliedAdapter& applied : adapters) {
      for (size_t i = 0; i < n; ++i) {
        const AdapterModule& module = ModuleAt(applied, layer, slots[i]);
        if (module.out_scale) {
          y[i] = ScaleColumns(ctx, y[i], FromOne(module.out_scale, applied.scale),
                              module.scales_bias ? nullptr : weights[i]->bias);
        }
        if (module.rank_scale) {
          y[i] = PlusVera(ctx, scaled[i] ? scaled[i] : x.Whole(ctx), module, applied.scale, y[i]);
        } else if (module.a) {
          AddLora(ctx, scaled[i] ? scaled[i] : x.Whole(ctx), Lora(applied, layer, slots[i]), y[i]);
        }
        if (module.bias) AddBias(ctx, module.bias, applied.scale, y[i]);
        if (module.down) y[i] = ThroughBottleneck(ctx, module, applied.scale, y[i]);
      }
    }
    return y;
  }

  static const AdapterModule& ModuleAt(const AppliedAdapter& applied, int64_t layer, Slot slot) {
    return applied.adapter->layers[static_cast<size_t>(layer)][static_cast<size_t>(slot)];
  }

  static LoraTerm Lora(const AppliedAdapter& applied, int64_t layer, Slot slot) {
    const AdapterModule& module = ModuleAt(applied, layer, slot);
    const uint64_t seed = applied.seed * 0x9e3779b97f4a7c15ull +
                          static_cast<uint64_t>(layer * kNumLinearSlots + static_cast<int64_t>(slot));
    return {module.a, module.b, applied.scale * module.scale, applied.dropout, seed};
  }

  // Whether there is one adapter, which has LoRA or nothing in all these: it then takes part in the products.
  bool HasLoraAlone(int64_t layer, std::span<const Slot> slots) const {
    if (observer != nullptr || adapters.size() != 1) return false;
    return std::ranges::all_of(slots, [&](Slot slot) {
      const AdapterModule& module = ModuleAt(adapters[0], layer, slot);
      return module.is_lora() || module.empty();
    });
  }
  template <size_t n>
  std::array<LoraTerm, n> Loras(int64_t layer, const Slot (&slots)[n]) const {
    std::array<LoraTerm, n> loras;
    for (size_t i = 0; i < n; ++i) loras[i] = Lora(adapters[0], layer, slots[i]);
    return loras;
  }

  // What the feed-forward network's last layer multiplies.
  LinearInput Gate(const Context& ctx, int64_t layer, const LinearInput& input) const {
    const Slot slots[] = {Slot::kGate, Slot::kUp};
    const Activation activation = model.config().arch->activation;
    const auto& weights = model.layers()[layer];
    const Weight* const both[] = {&weights.weight(Slot::kGate), &weights.weight(Slot::kUp)};
    if (adapters.empty() && observer == nullptr) return GatedLinear(ctx, both, input, activation);
    if (HasLoraAlone(layer, slots)) return GatedLinear(ctx, both, input, activation, Loras(layer, slots));
    const auto [gate, up] = Apply(ctx, layer, slots, input);
    return LinearInput::Gated(gate, up, activation);
  }

  static Tensor PlusVera(const Context& ctx, const Tensor& x, const AdapterModule& m, float scale,
                         const Tensor& y) {
    Context exact = ctx;
    exact.compute = Compute::kF32;
    const Tensor low = ScaleColumns(exact, Linear(exact, TrainedWeight("a", m.a), x), m.rank_scale);
    Tensor delta = ScaleColumns(exact, Linear(exact, TrainedWeight("b", m.b), low), m.delta_scale);
    if (scale != 1) ScaleInPlace(delta, scale);  // never in training
    AddInto(exact, y, delta);
    return delta;
  }

  static Tensor ThroughBottleneck(const Context& ctx, const AdapterModule& m, float scale, const Tensor& y) {
    Context exact = ctx;
    exact.compute = Compute::kF32;
    const Tensor h = Relu(exact, Linear(exact, TrainedWeight("down", m.down, m.down_bias), y));
    Tensor out = Linear(exact, TrainedWeight("up", m.up, m.up_bias), h);
    if (scale != 1) ScaleInPlace(out, scale);
    AddInto(exact, y, out);
    return out;
  }

  // The norm's weights, where adapters have none of their own. Of several, the differences add up.
  Tensor Norm(int64_t layer, Slot slot) const {
    const Tensor& base = model.layers()[static_cast<size_t>(layer)].norm(slot);
    Tensor norm = base;
    for (const AppliedAdapter& applied : adapters) {
      const auto& norms = applied.adapter->norms;
      if (!norms.empty())
        norm = Moved(norm, base, norms[static_cast<size_t>(layer)][NormIndex(slot)], applied.scale);
    }
    return norm;
  }
  Tensor OutputNorm() const {
    Tensor norm = model.output_norm();
    for (const AppliedAdapter& applied : adapters) {
      norm = Moved(norm, model.output_norm(), applied.adapter->output_norm, applied.scale);
    }
    return norm;
  }
  // from + scale * (own - base); own itself, with its gradient, where that is the same.
  static Tensor Moved(const Tensor& from, const Tensor& base, const Tensor& own, float scale) {
    if (!own || scale == 0) return from;
    if (scale == 1 && from.data() == base.data()) return own;
    const Tensor out = Tensor::Empty(1, from.size());
    for (int64_t i = 0; i < out.size(); ++i) {
      out.data()[i] = from.data()[i] + scale * (own.data()[i] - base.data()[i]);
    }
    return out;
  }

  // 1 + by * (scale - 1)
  static Tensor FromOne(const Tensor& scale, float by) {
    if (by == 1) return scale;
    const Tensor out = Tensor::Empty(scale.rows(), scale.cols());
    for (int64_t i = 0; i < out.size(); ++i) out.data()[i] = 1 + by * (scale.data()[i] - 1);
    return out;
  }

  // Unset where no adapter scales this layer's input.
  Tensor ScaledInput(const Context& ctx, int64_t layer, Slot slot, const Tensor& x) const {
    Tensor scaled;
    for (const AppliedAdapter& applied : adapters) {
      const AdapterModule& module = ModuleAt(applied, layer, slot);
      if (!module.in_scale) continue;
      scaled = ScaleColumns(ctx, scaled ? scaled : x, FromOne(module.in_scale, applied.scale));
    }
    return scaled;
  }

  void Observe(const Context& ctx, int64_t layer, std::span<const Slot> slots, const Tensor& x,
               std::span<const Tensor> y) const {
    observer->OnInput(layer, slots, x);
    if (!ctx.Records({x})) return;
    for (size_t i = 0; i < slots.size(); ++i) {
      ctx.tape->Record([observer = observer, layer, slot = slots[i], x, y = y[i]] {
        observer->OnGradient(layer, slot, x, y);
      });
    }
  }

  // Each sequence's keys or values of a layer after those of the adapters' prefixes, which stand from
  // first_column on in these.
  Tensor AfterPrefixes(const Context& ctx, Tensor rows, int64_t first_column) const {
    std::vector<int64_t> counts = lengths;
    for (const AppliedAdapter& applied : std::views::reverse(adapters)) {
      const Tensor& prefix = applied.adapter->prefix;
      if (!prefix || applied.scale == 0) continue;
      rows = Prepend(ctx, rows, counts, prefix, first_column);
      for (int64_t& count : counts) count += prefix.rows();
    }
    return rows;
  }

  // Over the batch, or over the cache, to which the keys and values are added.
  Tensor Attend(const Context& ctx, int64_t i, const Tensor& q, const Tensor& k, const Tensor& v) const {
    const ModelConfig& c = model.config();
    const AttentionParams params{c.n_heads, c.n_kv_heads, c.head_dim, c.attention_scale,
                                 c.is_local[i] ? c.sliding_window : 0};
    if (cache == nullptr) {
      const int64_t width = k.cols();
      return Attention(ctx, q, AfterPrefixes(ctx, k, 2 * i * width),
                       AfterPrefixes(ctx, v, (2 * i + 1) * width), segments, params);
    }
    StoreKeysAndValues(ctx, k, v, 0, k.rows(), cache->layer(i), cache->length_);
    return CachedAttention(ctx, q, cache->length_, cache->layer(i), params);
  }

  Tensor AttentionHalf(const Context& ctx, int64_t i, const Tensor& x) const {
    const ModelConfig& c = model.config();
    auto [q, k, v] = Apply(ctx, i, {Slot::kQ, Slot::kK, Slot::kV},
                           LinearInput::Normed(x, Norm(i, Slot::kAttnNorm), c.rms_eps));
    if (const Tensor norm = Norm(i, Slot::kQNorm)) q = RmsNorm(ctx, q, norm, c.rms_eps);
    if (const Tensor norm = Norm(i, Slot::kKNorm)) k = RmsNorm(ctx, k, norm, c.rms_eps);
    Rope(ctx, q, c.is_local[i] ? rope_local : rope);
    Rope(ctx, k, c.is_local[i] ? rope_local : rope);
    auto [y] = Apply(ctx, i, {Slot::kO}, Attend(ctx, i, q, k, v));
    if (const Tensor norm = Norm(i, Slot::kPostAttnNorm)) y = RmsNorm(ctx, y, norm, c.rms_eps);
    AddInto(ctx, x, y);
    return y;
  }

  Tensor FeedForwardHalf(const Context& ctx, int64_t i, const Tensor& x) const {
    const ModelConfig& c = model.config();
    auto [y] = Apply(ctx, i, {Slot::kDown},
                     Gate(ctx, i, LinearInput::Normed(x, Norm(i, Slot::kFfnNorm), c.rms_eps)));
    if (const Tensor norm = Norm(i, Slot::kPostFfnNorm)) y = RmsNorm(ctx, y, norm, c.rms_eps);
    AddInto(ctx, x, y);
    return y;
  }

  Tensor RunLayer(const Context& ctx, int64_t i, const Tensor& x) const {
    return FeedForwardHalf(ctx, i, AttentionHalf(ctx, i, x));
  }
};

namespace {

// What the closures of checkpointed layers keep until the backward pass.
struct SavedState {
  SavedState(const ForwardState& from) : adapters(from.adapters.begin(), from.adapters.end()), state(from) {
    state.adapters = adapters;
  }
  std::vector<AppliedAdapter> adapters;
  ForwardState state;
};

// Runs the layer without a tape, and again with one when its gradient is asked for.
Tensor RunCheckpointed(const Context& ctx, const std::shared_ptr<const SavedState>& saved, int64_t i,
                       const Tensor& x) {
  Context plain = ctx;
  plain.tape = nullptr;
  Tensor y = saved->state.RunLayer(plain, i, x);
  y.set_requires_grad(true);
  ctx.tape->Record([ctx, saved, i, x, y] {
    Tape tape;
    Context inner = ctx;
    inner.tape = &tape;
    const Tensor again = saved->state.RunLayer(inner, i, x);
    again.TakeGrad(y);
    tape.Backward();
  });
  return y;
}

// Of all tokens, the first of each sequence standing at `first`. Kept until the thread's next call.
std::span<const int32_t> Positions(int64_t first, std::span<const int64_t> lengths) {
  thread_local std::vector<int32_t> positions;
  positions.clear();
  for (int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) positions.push_back(static_cast<int32_t>(first + i));
  }
  return positions;
}

// How many rows of one kind (Adapter::prompt, Adapter::prefix) the adapters put before each sequence.
int64_t VirtualRows(std::span<const AppliedAdapter> adapters, Tensor Adapter::*kind) {
  int64_t n = 0;
  for (const AppliedAdapter& applied : adapters) {
    const Tensor& rows = applied.adapter->*kind;
    n += rows && applied.scale != 0 ? rows.rows() : 0;
  }
  return n;
}

int64_t VirtualTokens(std::span<const AppliedAdapter> adapters) {
  return VirtualRows(adapters, &Adapter::prompt) + VirtualRows(adapters, &Adapter::prefix);
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t capacity, KvTypes types)
    : format_{types, config.n_kv_heads, config.head_dim}, n_layers_(config.n_layers), capacity_(capacity) {
  CHECK(format_.Check());
}

Status KvCache::Check(const ModelConfig& config, KvTypes types) {
  return KvFormat{types, config.n_kv_heads, config.head_dim}.Check();
}

size_t KvCache::BytesPerToken(const ModelConfig& config, KvTypes types) {
  const KvFormat format{types, config.n_kv_heads, config.head_dim};
  return static_cast<size_t>(config.n_layers) * format.block_bytes() / kKeyBlock;
}

void KvCache::Truncate(int64_t length) {
  CHECK(length >= 0 && length <= length_);
  length_ = length;
}

size_t KvCache::bytes() const {
  return blocks_.size() * static_cast<size_t>(n_layers_) * format_.block_bytes();
}

void KvCache::Reserve(int64_t length) {
  CHECK(length <= capacity_);
  while (static_cast<int64_t>(blocks_.size()) * kKeyBlock < length) {
    memory_.push_back(Tensor::Empty(n_layers_, static_cast<int64_t>(format_.block_bytes() / sizeof(float))));
    blocks_.push_back(reinterpret_cast<uint8_t*>(memory_.back().data()));
  }
}

KvBlocks KvCache::layer(int64_t i) const {
  return {format_, blocks_, static_cast<size_t>(i) * format_.block_bytes()};
}

bool Adapter::is_lora() const {
  return n_virtual() == 0 && norms.empty() && !output_norm &&
         std::ranges::all_of(layers, [](const auto& layer) {
           return std::ranges::all_of(layer, [](const AdapterModule& m) { return m.empty() || m.is_lora(); });
         });
}

// x [tokens, d_model] through all layers and the output norm; of `input`, everything but the tokens counts.
Tensor RunLayers(const Context& ctx, const Model& model, const ForwardInput& input, const Tensor& embedded) {
  const ModelConfig& c = model.config();
  const int64_t n_tokens = embedded.rows();
  CHECK(std::accumulate(input.lengths.begin(), input.lengths.end(), int64_t{0}) == n_tokens);
  CHECK(input.cache == nullptr || (input.lengths.size() == 1 && ctx.tape == nullptr &&
                                   input.cache->length() + n_tokens <= input.cache->capacity()));
  CHECK(input.observer == nullptr || !input.checkpoint);
  if (input.cache != nullptr) input.cache->Reserve(input.cache->length() + n_tokens);

  ForwardState state{
      .model = model, .adapters = input.adapters, .cache = input.cache, .observer = input.observer};
  const int64_t n_prefix = VirtualRows(input.adapters, &Adapter::prefix);
  const auto positions = Positions(input.cache != nullptr ? input.cache->length() : n_prefix, input.lengths);
  state.rope = MakeRopeTable(positions, model.rope_frequencies(false), c.rope_style);
  state.rope_local = c.has_local_layers() && c.rope_theta_local > 0
                         ? MakeRopeTable(positions, model.rope_frequencies(true), c.rope_style)
                         : state.rope;
  if (input.cache == nullptr) {
    state.lengths.assign(input.lengths.begin(), input.lengths.end());
    int64_t q_begin = 0, kv_begin = 0;
    for (const int64_t length : state.lengths) {
      state.segments.push_back({q_begin, length, kv_begin, n_prefix + length});
      q_begin += length;
      kv_begin += n_prefix + length;
    }
  }
  const auto saved =
      ctx.tape != nullptr && input.checkpoint ? std::make_shared<const SavedState>(state) : nullptr;
  Tensor x = embedded;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    x = saved != nullptr ? RunCheckpointed(ctx, saved, i, x) : state.RunLayer(ctx, i, x);
  }
  if (input.cache != nullptr) input.cache->length_ += n_tokens;
  return RmsNorm(ctx, x, state.OutputNorm(), c.rms_eps);
}

Tensor ForwardHidden(const Context& ctx, const Model& model, const ForwardInput& input) {
  CHECK(input.cache == nullptr || input.cache->length() >= VirtualTokens(input.adapters));
  Tensor x = Embedding(ctx, model.embedding(), input.tokens, model.config().embedding_scale());
  // A frozen model's gradients are wanted only where someone looks at them.
  if (ctx.tape != nullptr && input.observer != nullptr) {
    x.set_requires_grad(true);
    ctx.tape->Record(
        [observer = input.observer, tokens = input.tokens, x] { observer->OnEmbeddingGradient(tokens, x); });
  }
  const int64_t whole[] = {x.rows()};
  ForwardInput of_layers = input;
  if (input.lengths.empty()) of_layers.lengths = whole;
  if (input.cache != nullptr || VirtualRows(input.adapters, &Adapter::prompt) == 0) {
    return RunLayers(ctx, model, of_layers, x);
  }
  const std::span<const int64_t> own = of_layers.lengths;
  std::vector<int64_t> lengths(own.begin(), own.end());
  for (const AppliedAdapter& applied : std::views::reverse(input.adapters)) {
    const Tensor& prompt = applied.adapter->prompt;
    if (!prompt || applied.scale == 0) continue;
    x = Prepend(ctx, x, lengths, prompt);
    for (int64_t& length : lengths) length += prompt.rows();
  }
  of_layers.lengths = lengths;
  return DropPrepended(ctx, RunLayers(ctx, model, of_layers, x), own, lengths[0] - own[0]);
}

KvCache StartSequence(const Context& ctx, const Model& model, std::span<const AppliedAdapter> adapters,
                      int64_t n_tokens, KvTypes types) {
  const ModelConfig& c = model.config();
  KvCache cache(c, VirtualTokens(adapters) + n_tokens, types);
  const int64_t width = c.n_kv_heads * c.head_dim;
  for (const AppliedAdapter& applied : adapters) {
    const Tensor& prefix = applied.adapter->prefix;
    if (!prefix || applied.scale == 0) continue;
    cache.Reserve(cache.length_ + prefix.rows());
    const Tensor k = Tensor::Empty(prefix.rows(), width), v = Tensor::Empty(prefix.rows(), width);
    for (int64_t layer = 0; layer < c.n_layers; ++layer) {
      for (int64_t i = 0; i < prefix.rows(); ++i) {
        const float* row = prefix.row(i) + 2 * layer * width;
        std::copy_n(row, width, k.row(i));
        std::copy_n(row + width, width, v.row(i));
      }
      StoreKeysAndValues(ctx, k, v, 0, k.rows(), cache.layer(layer), cache.length_);
    }
    cache.length_ += prefix.rows();
  }
  for (const AppliedAdapter& applied : adapters) {
    const Tensor& prompt = applied.adapter->prompt;
    if (!prompt || applied.scale == 0) continue;
    const int64_t whole[] = {prompt.rows()};
    RunLayers(ctx, model, {.lengths = whole, .cache = &cache, .adapters = adapters}, prompt);
  }
  return cache;
}

Tensor Logits(const Context& ctx, const Model& model, const Tensor& hidden) {
  return Linear(ctx, model.output(), hidden);
}

}  // namespace thimble

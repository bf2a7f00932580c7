// A model's configuration as GGUF's keys have it (docs/gguf.md, "LLM"; names as in llama.cpp).
#include <algorithm>
#include <cmath>

#include "model/config_fields.h"

namespace thimble {
namespace {

constexpr const char* kWindowPattern = "attention.sliding_window_pattern";

float DefaultAttentionScale(const ModelConfig& c) {
  return static_cast<float>(1 /
                            std::sqrt(static_cast<double>(c.head_dim)));  // as from config.json, to the bit
}

// llama.cpp writes the pattern as a period, or as a flag per layer.
Status ReadWindows(const Metadata& metadata, const std::string& path, const std::string& prefix,
                   ModelConfig& c) {
  const MetadataValue* value = metadata.Find(prefix + kWindowPattern);
  if (value == nullptr || !value->is_array()) {
    ConfigFields fields(metadata, path, prefix);
    c.is_local = DefaultWindows(c, fields.Int(kWindowPattern, c.arch->default_window_pattern, 0, kMaxLayers));
    return fields.status();
  }
  const auto* flags = std::get_if<std::vector<bool>>(&value->storage());
  if (flags == nullptr || static_cast<int64_t>(flags->size()) != c.n_layers) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}{} is {}, expected a flag for each of {} layers", path,
                     prefix, kWindowPattern, value->ToString(), c.n_layers);
  }
  c.is_local = *flags;
  return {};
}

// Llama 3's scaling is a tensor in GGUF.
Status ReadRopeFactors(const GgufFile& file, ModelConfig& c) {
  const TensorInfo* factors = file.tensors.Find("rope_freqs.weight");
  if (factors == nullptr) return {};
  if (factors->type != WeightType::kF32 || factors->n_elements() > kMaxWidth) {
    return MakeError(ErrorCode::kCorrupt, "{}: tensor rope_freqs.weight is not a short F32 vector",
                     file.file->path());
  }
  c.rope_factors.resize(static_cast<size_t>(factors->n_elements()));
  std::copy(factors->bytes.begin(), factors->bytes.end(), reinterpret_cast<uint8_t*>(c.rope_factors.data()));
  return {};
}

}  // namespace

Result<ModelConfig> ModelConfigFromGguf(const GgufFile& file) {
  const std::string& path = file.file->path();
  const auto name = file.metadata.String("general.architecture");
  if (!name)
    return MakeError(ErrorCode::kCorrupt, "{}: general.architecture is missing or not a string", path);
  ModelConfig c;
  c.arch = FindArchByGguf(*name);
  if (c.arch == nullptr) {
    return MakeError(ErrorCode::kUnsupported, "{}: architecture '{}' is not supported (supported: {})", path,
                     *name, SupportedArchs());
  }
  const std::string prefix = *name + ".";
  ConfigFields keys(file.metadata, path, prefix);
  c.n_layers = keys.Int("block_count", {}, 1, kMaxLayers);
  c.d_model = keys.Int("embedding_length", {}, 1, kMaxWidth);
  c.d_ff = keys.Int("feed_forward_length", {}, 1, kMaxWidth);
  c.n_heads = keys.Int("attention.head_count", {}, 1, kMaxWidth);
  c.n_kv_heads = keys.Int("attention.head_count_kv", c.n_heads, 1, kMaxWidth);
  c.head_dim = keys.Int("attention.key_length", c.d_model / c.n_heads, 1, kMaxWidth);
  c.context_length = keys.Int("context_length", 2048, 1, kMaxContext);
  c.rms_eps = static_cast<float>(keys.Float("attention.layer_norm_rms_epsilon", 1e-5, 0, 1));
  c.rope_theta = keys.Float("rope.freq_base", c.arch->default_rope_theta, 0, 1e30);
  c.rope_theta_local = c.arch->default_rope_theta_local;
  if (c.rope_theta_local > 0)
    c.rope_theta_local = keys.Float("rope.freq_base_swa", c.rope_theta_local, 0, 1e30);
  c.sliding_window = keys.Int("attention.sliding_window", 0, 0, kMaxContext);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    if (const int64_t size = keys.Int(key, c.head_dim, 0, kMaxWidth); size != c.head_dim) {
      keys.Fail(ErrorCode::kUnsupported, key, "is {}, other than the head size {}", size, c.head_dim);
    }
  }
  const std::string scaling = keys.String("rope.scaling.type", "none");
  if (scaling == "linear") {
    c.rope_linear_factor = keys.Float("rope.scaling.factor", 1, 0, 1e9);
  } else if (scaling != "none") {
    keys.Fail(ErrorCode::kUnsupported, "rope.scaling.type", "is '{}', supported are none and linear",
              scaling);
  }
  c.attention_scale = static_cast<float>(keys.Float("attention.scale", DefaultAttentionScale(c), 0, 1e9));
  RETURN_IF_ERROR(keys.status());
  c.rope_style = c.arch->gguf_rope_interleaved ? RopeStyle::kInterleaved : RopeStyle::kHalf;
  const TensorInfo* embedding = file.tensors.Find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2 || embedding->shape[0] > kMaxVocab) {
    return MakeError(ErrorCode::kCorrupt,
                     "{}: tensor token_embd.weight is missing or not a matrix of at most {} rows", path,
                     kMaxVocab);
  }
  c.vocab_size = embedding->shape[0];
  c.tied_embeddings = file.tensors.Find("output.weight") == nullptr;
  RETURN_IF_ERROR(ReadRopeFactors(file, c));
  RETURN_IF_ERROR(ReadWindows(file.metadata, path, prefix, c));
  RETURN_IF_ERROR(CheckConfig(c, path));
  return c;
}

void ModelConfigToGguf(const ModelConfig& c, Metadata& m) {
  const std::string p = std::string(c.arch->gguf_arch) + ".";
  const auto u32 = [&](const char* key, int64_t value) { m.Set(p + key, {static_cast<uint32_t>(value)}); };
  m.Set("general.architecture", {std::string(c.arch->gguf_arch)});
  u32("block_count", c.n_layers);
  u32("context_length", c.context_length);
  u32("embedding_length", c.d_model);
  u32("feed_forward_length", c.d_ff);
  u32("attention.head_count", c.n_heads);
  u32("attention.head_count_kv", c.n_kv_heads);
  if (c.rope_linear_factor != 1) {
    m.Set(p + "rope.scaling.type", {std::string("linear")});
    m.Set(p + "rope.scaling.factor", {static_cast<float>(c.rope_linear_factor)});
  }
  m.Set(p + "rope.freq_base", {static_cast<float>(c.rope_theta)});
  if (c.rope_theta_local > 0) m.Set(p + "rope.freq_base_swa", {static_cast<float>(c.rope_theta_local)});
  m.Set(p + "attention.layer_norm_rms_epsilon", {c.rms_eps});
  if (c.arch->gguf_head_size_keys) {
    u32("attention.key_length", c.head_dim);
    u32("attention.value_length", c.head_dim);
  }
  if (c.arch->gguf_llama_size_keys) {
    u32("vocab_size", c.vocab_size);
    u32("rope.dimension_count", c.head_dim);
  }
  // Beyond llama.cpp's keys, where they would lose what the model does.
  if (c.attention_scale != DefaultAttentionScale(c)) m.Set(p + "attention.scale", {c.attention_scale});
  if (c.sliding_window == 0) return;
  u32("attention.sliding_window", c.sliding_window);
  if (c.is_local != DefaultWindows(c, c.arch->default_window_pattern))
    m.Set(p + kWindowPattern, {c.is_local});
}

}  // namespace thimble

#include "model/config.h"

#include <algorithm>
#include <cmath>

namespace thimble {
namespace {

// Bounds that no real model exceeds; they keep products of sizes far from overflow.
constexpr int64_t kMaxLayers = 1024, kMaxWidth = 1 << 20, kMaxVocab = 1 << 24, kMaxContext = int64_t{1} << 31;

Status CheckRange(const std::string& file, const std::string& field, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return {};
  return MakeError(ErrorCode::kCorrupt, "{}: {} is {}, expected 1 to {}", file, field, value, max);
}

Status Validate(const ModelConfig& c, const std::string& file) {
  RETURN_IF_ERROR(CheckRange(file, "number of layers", c.n_layers, kMaxLayers));
  RETURN_IF_ERROR(CheckRange(file, "hidden size", c.d_model, kMaxWidth));
  RETURN_IF_ERROR(CheckRange(file, "number of heads", c.n_heads, kMaxWidth));
  RETURN_IF_ERROR(CheckRange(file, "number of key-value heads", c.n_kv_heads, kMaxWidth));
  RETURN_IF_ERROR(CheckRange(file, "head size", c.head_dim, kMaxWidth));
  RETURN_IF_ERROR(CheckRange(file, "feed-forward size", c.d_ff, kMaxWidth));
  RETURN_IF_ERROR(CheckRange(file, "vocabulary size", c.vocab_size, kMaxVocab));
  RETURN_IF_ERROR(CheckRange(file, "context length", c.context_length, kMaxContext));
  if (c.n_heads % c.n_kv_heads != 0) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} heads cannot share {} key-value heads", file, c.n_heads,
                     c.n_kv_heads);
  }
  if (c.head_dim % 2 != 0) return MakeError(ErrorCode::kCorrupt, "{}: head size {} is odd", file, c.head_dim);
  const bool numbers_fine =
      c.rms_eps > 0 && c.rms_eps < 1 && c.rope_theta > 0 && std::isfinite(c.rope_theta) &&
      c.rope_theta_local >= 0 && std::isfinite(c.rope_theta_local) && c.rope_linear_factor > 0 &&
      std::isfinite(c.rope_linear_factor) && std::isfinite(c.attention_scale) && c.sliding_window >= 0;
  if (!numbers_fine) {
    return MakeError(ErrorCode::kCorrupt,
                     "{}: a RoPE base, scaling factor, epsilon or window is out of range", file);
  }
  if (!c.rope_factors.empty() && static_cast<int64_t>(c.rope_factors.size()) != c.head_dim / 2) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} RoPE factors for a head size of {}", file,
                     c.rope_factors.size(), c.head_dim);
  }
  return {};
}

void SetWindowPattern(ModelConfig& c, int64_t pattern) {
  c.is_local.assign(static_cast<size_t>(c.n_layers), false);
  if (c.sliding_window == 0) return;
  for (int64_t i = 0; i < c.n_layers; ++i)
    c.is_local[i] = pattern <= 1 ? pattern == 0 : (i + 1) % pattern != 0;
}

// Reads typed fields from one kind of file, remembering the first thing that is missing.
struct GgufKeys {
  const Metadata& metadata;
  std::string prefix, missing = {};
  int64_t Required(const char* key) {
    auto value = metadata.Int(prefix + key);
    if (!value && missing.empty()) missing = prefix + key;
    return value.value_or(0);
  }
  int64_t Int(const char* key, int64_t fallback) { return metadata.Int(prefix + key).value_or(fallback); }
  double Float(const char* key, double fallback) { return metadata.Float(prefix + key).value_or(fallback); }
};

int64_t JsonInt(const Json& json, const char* key, int64_t fallback) {
  auto it = json.find(key);
  return it != json.end() && it->is_number_integer() ? it->get<int64_t>() : fallback;
}

double JsonFloat(const Json& json, const char* key, double fallback) {
  auto it = json.find(key);
  return it != json.end() && it->is_number() ? it->get<double>() : fallback;
}

std::string JsonString(const Json& json, const char* key) {
  auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

// One "rope_scaling" / "rope_parameters" object.
Status ReadHfRope(const Json& rope, const std::string& file, ModelConfig& c) {
  std::string type = JsonString(rope, "rope_type");
  if (type.empty()) type = JsonString(rope, "type");
  c.rope_theta = JsonFloat(rope, "rope_theta", c.rope_theta);
  if (type.empty() || type == "default") return {};
  const double factor = JsonFloat(rope, "factor", 1);
  if (type == "linear") {
    c.rope_linear_factor = factor;
  } else if (type == "llama3") {
    const int64_t original = JsonInt(rope, "original_max_position_embeddings", c.context_length);
    const double low = JsonFloat(rope, "low_freq_factor", 1), high = JsonFloat(rope, "high_freq_factor", 4);
    if (!(factor > 0) || !(high > low) || original < 1) {
      return MakeError(ErrorCode::kCorrupt, "{}: rope_scaling of type llama3 has factors out of range", file);
    }
    c.rope_factors = Llama3RopeFactors(c.rope_theta, c.head_dim, factor, low, high, original);
  } else {
    return MakeError(ErrorCode::kUnsupported,
                     "{}: RoPE scaling '{}' is not supported (default, linear, llama3 are)", file, type);
  }
  return {};
}

Status ReadHfRopes(const Json& json, const std::string& file, ModelConfig& c) {
  c.rope_theta = JsonFloat(json, "rope_theta", c.arch->default_rope_theta);
  c.rope_theta_local = JsonFloat(json, "rope_local_base_freq", c.arch->default_rope_theta_local);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    auto it = json.find(key);
    if (it == json.end() || !it->is_object()) continue;
    if (auto local = it->find("sliding_attention"); local != it->end() && local->is_object()) {
      c.rope_theta_local = JsonFloat(*local, "rope_theta", c.rope_theta_local);
    }
    auto global = it->find("full_attention");
    RETURN_IF_ERROR(ReadHfRope(global != it->end() && global->is_object() ? *global : *it, file, c));
  }
  return {};
}

// Which layers use the sliding window: "layer_types" where given, else the family's pattern.
void ReadHfWindows(const Json& json, ModelConfig& c) {
  const char* window_switch = c.arch->hf_window_switch;
  const bool on = window_switch == nullptr || (json.contains(window_switch) && json[window_switch] == true);
  c.sliding_window = on ? std::max<int64_t>(0, JsonInt(json, "sliding_window", 0)) : 0;
  const int64_t pattern = JsonInt(json, "sliding_window_pattern",
                                  JsonInt(json, "_sliding_window_pattern", c.arch->default_window_pattern));
  SetWindowPattern(c, pattern);
  auto types = json.find("layer_types");
  if (c.sliding_window == 0 || types == json.end() || !types->is_array()) return;
  for (size_t i = 0; i < c.is_local.size() && i < types->size(); ++i) {
    c.is_local[i] = (*types)[i] == "sliding_attention";
  }
}

}  // namespace

std::vector<float> Llama3RopeFactors(double theta, int64_t head_dim, double factor, double low_freq_factor,
                                     double high_freq_factor, int64_t original_context) {
  constexpr double kTwoPi = 6.283185307179586;
  std::vector<float> factors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double wavelength =
        kTwoPi * std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double context = static_cast<double>(original_context);
    double divisor = 1;
    if (wavelength > context / low_freq_factor) {
      divisor = factor;
    } else if (wavelength >= context / high_freq_factor) {
      const double smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    factors.push_back(static_cast<float>(divisor));
  }
  return factors;
}

bool ModelConfig::has_local_layers() const {
  return std::find(is_local.begin(), is_local.end(), true) != is_local.end();
}

std::vector<double> ModelConfig::RopeFrequencies(bool local) const {
  const bool own_base = local && rope_theta_local > 0;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    double f = std::pow(own_base ? rope_theta_local : rope_theta,
                        -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (!own_base) f /= rope_linear_factor * (rope_factors.empty() ? 1.0 : rope_factors[i]);
    frequencies.push_back(f);
  }
  return frequencies;
}

Result<ModelConfig> ModelConfigFromGguf(const GgufFile& file) {
  const std::string& path = file.file->path();
  const auto name = file.metadata.String("general.architecture");
  if (!name) return MakeError(ErrorCode::kCorrupt, "{}: key general.architecture is missing", path);
  ModelConfig c;
  c.arch = FindArchByGguf(*name);
  if (c.arch == nullptr) {
    return MakeError(ErrorCode::kUnsupported, "{}: architecture '{}' is not supported (supported: {})", path,
                     *name, SupportedArchs());
  }
  GgufKeys keys{file.metadata, *name + "."};
  c.n_layers = keys.Required("block_count");
  c.d_model = keys.Required("embedding_length");
  c.d_ff = keys.Required("feed_forward_length");
  c.n_heads = keys.Required("attention.head_count");
  if (!keys.missing.empty()) {
    return MakeError(ErrorCode::kCorrupt, "{}: key {} is missing or not a whole number", path, keys.missing);
  }
  c.n_kv_heads = keys.Int("attention.head_count_kv", c.n_heads);
  c.head_dim = keys.Int("attention.key_length", c.n_heads > 0 ? c.d_model / c.n_heads : 0);
  c.context_length = keys.Int("context_length", 2048);
  c.rms_eps = static_cast<float>(keys.Float("attention.layer_norm_rms_epsilon", 1e-5));
  c.rope_theta = keys.Float("rope.freq_base", c.arch->default_rope_theta);
  c.rope_theta_local = keys.Float("rope.freq_base_swa", c.arch->default_rope_theta_local);
  if (keys.Int("attention.value_length", c.head_dim) != c.head_dim ||
      keys.Int("rope.dimension_count", c.head_dim) != c.head_dim) {
    return MakeError(ErrorCode::kUnsupported,
                     "{}: value heads or RoPE dimensions other than the head size {}", path, c.head_dim);
  }
  const std::string scaling = file.metadata.String(*name + ".rope.scaling.type").value_or("none");
  if (scaling == "linear") {
    c.rope_linear_factor = keys.Float("rope.scaling.factor", 1);
  } else if (scaling != "none") {
    return MakeError(ErrorCode::kUnsupported, "{}: RoPE scaling '{}' is not supported", path, scaling);
  }
  c.rope_style = c.arch->gguf_rope_interleaved ? RopeStyle::kInterleaved : RopeStyle::kHalf;
  c.sliding_window = keys.Int("attention.sliding_window", 0);
  const TensorInfo* embedding = file.tensors.Find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return MakeError(ErrorCode::kCorrupt, "{}: tensor token_embd.weight is missing or not a matrix", path);
  }
  c.vocab_size = embedding->shape[0];
  c.tied_embeddings = file.tensors.Find("output.weight") == nullptr;
  if (const TensorInfo* factors = file.tensors.Find("rope_freqs.weight")) {
    if (factors->type != WeightType::kF32 || factors->n_elements() > kMaxWidth) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor rope_freqs.weight is not a short F32 vector", path);
    }
    c.rope_factors.resize(static_cast<size_t>(factors->n_elements()));
    std::copy(factors->bytes.begin(), factors->bytes.end(),
              reinterpret_cast<uint8_t*>(c.rope_factors.data()));
  }
  c.attention_scale = 1.0f / std::sqrt(static_cast<float>(std::max<int64_t>(c.head_dim, 1)));
  RETURN_IF_ERROR(Validate(c, path));
  SetWindowPattern(c, keys.Int("attention.sliding_window_pattern", c.arch->default_window_pattern));
  return c;
}

Result<ModelConfig> ModelConfigFromHf(const HfDirectory& directory) {
  const Json& json = directory.config;
  const std::string file = directory.path + "/config.json";
  const std::string type = JsonString(json, "model_type");
  ModelConfig c;
  c.arch = FindArchByHf(type);
  if (c.arch == nullptr) {
    return MakeError(ErrorCode::kUnsupported, "{}: model_type '{}' is not supported (supported: {})", file,
                     type, SupportedArchs());
  }
  c.n_layers = JsonInt(json, "num_hidden_layers", 0);
  c.d_model = JsonInt(json, "hidden_size", 0);
  c.d_ff = JsonInt(json, "intermediate_size", 0);
  c.n_heads = JsonInt(json, "num_attention_heads", 0);
  c.n_kv_heads = JsonInt(json, "num_key_value_heads", c.n_heads);
  c.head_dim = JsonInt(json, "head_dim", c.n_heads > 0 ? c.d_model / c.n_heads : 0);
  c.vocab_size = JsonInt(json, "vocab_size", 0);
  c.context_length = JsonInt(json, "max_position_embeddings", 2048);
  c.rms_eps = static_cast<float>(JsonFloat(json, "rms_norm_eps", 1e-6));
  for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    if (JsonFloat(json, key, 0) != 0)
      return MakeError(ErrorCode::kUnsupported, "{}: {} is not supported", file, key);
  }
  if (c.n_layers > kMaxLayers || c.head_dim > kMaxWidth) {  // before anything is sized by them
    return MakeError(ErrorCode::kCorrupt, "{}: num_hidden_layers or head_dim is out of range", file);
  }
  RETURN_IF_ERROR(ReadHfRopes(json, file, c));
  c.attention_scale =
      static_cast<float>(1 / std::sqrt(JsonFloat(json, "query_pre_attn_scalar",
                                                 static_cast<double>(std::max<int64_t>(c.head_dim, 1)))));
  auto tied = json.find("tie_word_embeddings");
  c.tied_embeddings = tied != json.end() && tied->is_boolean() ? tied->get<bool>() : c.arch->tied_by_default;
  RETURN_IF_ERROR(Validate(c, file));
  ReadHfWindows(json, c);
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
  u32("attention.key_length", c.head_dim);
  u32("attention.value_length", c.head_dim);
  u32("rope.dimension_count", c.head_dim);
  u32("vocab_size", c.vocab_size);
  m.Set(p + "attention.layer_norm_rms_epsilon", {c.rms_eps});
  m.Set(p + "rope.freq_base", {static_cast<float>(c.rope_theta)});
  if (c.rope_theta_local > 0) m.Set(p + "rope.freq_base_swa", {static_cast<float>(c.rope_theta_local)});
  if (c.rope_linear_factor != 1) {
    m.Set(p + "rope.scaling.type", {std::string("linear")});
    m.Set(p + "rope.scaling.factor", {static_cast<float>(c.rope_linear_factor)});
  }
  if (c.sliding_window > 0) u32("attention.sliding_window", c.sliding_window);
}

Json ModelConfigToHf(const ModelConfig& c) {
  Json json = {{"architectures", {c.arch->hf_class}},
               {"model_type", c.arch->hf_types[0]},
               {"vocab_size", c.vocab_size},
               {"hidden_size", c.d_model},
               {"intermediate_size", c.d_ff},
               {"num_hidden_layers", c.n_layers},
               {"num_attention_heads", c.n_heads},
               {"num_key_value_heads", c.n_kv_heads},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.context_length},
               {"rms_norm_eps", c.rms_eps},
               {"rope_theta", c.rope_theta},
               {"tie_word_embeddings", c.tied_embeddings},
               {c.arch->activation == Activation::kSilu ? "hidden_act" : "hidden_activation",
                c.arch->activation == Activation::kSilu ? "silu" : "gelu_pytorch_tanh"}};
  if (c.rope_theta_local > 0) json["rope_local_base_freq"] = c.rope_theta_local;
  if (c.rope_linear_factor != 1)
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", c.rope_linear_factor}};
  if (c.sliding_window > 0) {
    json["sliding_window"] = c.sliding_window;
    Json types = Json::array();
    for (bool local : c.is_local) types.push_back(local ? "sliding_attention" : "full_attention");
    json["layer_types"] = types;
  }
  if (c.arch->default_rope_theta_local > 0) {
    json["query_pre_attn_scalar"] = std::lround(1.0 / (c.attention_scale * c.attention_scale));
  }
  return json;
}

}  // namespace thimble

// A model's configuration as config.json has it, of Transformers 4 and 5.
#include <algorithm>
#include <cmath>

#include "model/config_fields.h"

namespace thimble {
namespace {

// One "rope_scaling" / "rope_parameters" object; `name` is its place in the file.
Status ReadRope(const Json& json, const std::string& file, const std::string& name, ModelConfig& c) {
  ConfigFields rope(json, file, name + ".");
  const std::string type = rope.String("rope_type", rope.String("type", "default"));
  c.rope_theta = rope.Float("rope_theta", c.rope_theta, 0, 1e30);
  const double factor = rope.Float("factor", 1, 0, 1e9);
  if (rope.Float("partial_rotary_factor", 1, 0, 2) != 1) {
    rope.Fail(ErrorCode::kUnsupported, "partial_rotary_factor", "is not supported");
  }
  if (type == "linear") {
    c.rope_linear_factor = factor;
  } else if (type == "llama3") {
    const int64_t original = rope.Int("original_max_position_embeddings", c.context_length, 1, kMaxContext);
    const double low = rope.Float("low_freq_factor", 1, 0, 1e9);
    const double high = rope.Float("high_freq_factor", 4, low, 1e9);
    RETURN_IF_ERROR(rope.status());
    c.rope_factors = Llama3RopeFactors(c.rope_theta, c.head_dim, factor, low, high, original);
  } else if (type != "default") {
    rope.Fail(ErrorCode::kUnsupported, "rope_type", "is '{}', supported are default, linear and llama3",
              type);
  }
  return rope.status();
}

Status ReadRopes(const Json& json, const std::string& file, ModelConfig& c) {
  ConfigFields fields(json, file);
  c.rope_theta = fields.Float("rope_theta", c.arch->default_rope_theta, 0, 1e30);
  c.rope_theta_local = c.arch->default_rope_theta_local;
  if (c.rope_theta_local > 0) {
    c.rope_theta_local = fields.Float("rope_local_base_freq", c.rope_theta_local, 0, 1e30);
  }
  RETURN_IF_ERROR(fields.status());
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) continue;
    if (!it->is_object()) return MakeError(ErrorCode::kCorrupt, "{}: {} is not an object", file, key);
    if (const auto local = it->find("sliding_attention"); local != it->end() && local->is_object()) {
      ConfigFields rope(*local, file, fmt::format("{}.sliding_attention.", key));
      c.rope_theta_local = rope.Float("rope_theta", c.rope_theta_local, 0, 1e30);
      if (rope.String("rope_type", "default") != "default") {
        rope.Fail(ErrorCode::kUnsupported, "rope_type", "is not 'default'");
      }
      RETURN_IF_ERROR(rope.status());
    }
    const auto global = it->find("full_attention");
    const bool nested = global != it->end() && global->is_object();
    RETURN_IF_ERROR(nested ? ReadRope(*global, file, fmt::format("{}.full_attention", key), c)
                           : ReadRope(*it, file, key, c));
  }
  return {};
}

// Which layers use the sliding window: "layer_types" where given, else the family's pattern.
Status ReadWindows(const Json& json, const std::string& file, ModelConfig& c) {
  ConfigFields fields(json, file);
  const char* window_switch = c.arch->hf_window_switch;
  const bool on = window_switch == nullptr || fields.Bool(window_switch, false);
  c.sliding_window = on ? fields.Int("sliding_window", 0, 0, kMaxContext) : 0;
  const int64_t pattern = fields.Int(
      "sliding_window_pattern",
      fields.Int("_sliding_window_pattern", c.arch->default_window_pattern, 0, kMaxLayers), 0, kMaxLayers);
  c.is_local = DefaultWindows(c, pattern);
  if (window_switch != nullptr && c.sliding_window > 0) {
    const int64_t first = fields.Int("max_window_layers", 28, 0, kMaxLayers);
    for (int64_t i = 0; i < std::min(first, c.n_layers); ++i) c.is_local[static_cast<size_t>(i)] = false;
  }
  RETURN_IF_ERROR(fields.status());
  const auto types = json.find("layer_types");
  if (types == json.end() || types->is_null()) return {};
  if (!types->is_array() || types->size() != c.is_local.size()) {
    return MakeError(ErrorCode::kCorrupt, "{}: layer_types is not a list of {} names", file, c.n_layers);
  }
  for (size_t i = 0; i < types->size(); ++i) {
    const bool local = (*types)[i] == "sliding_attention";
    if (!local && (*types)[i] != "full_attention") {
      return MakeError(ErrorCode::kUnsupported,
                       "{}: layer_types has {}, supported are full_attention and sliding_attention", file,
                       DumpJson((*types)[i]).substr(0, 100));
    }
    c.is_local[i] = local && c.sliding_window > 0;
  }
  return {};
}

const char* ActivationKey(const ArchRow& arch) {
  return arch.activation == Activation::kSilu ? "hidden_act" : "hidden_activation";
}
const char* ActivationName(const ArchRow& arch) {
  return arch.activation == Activation::kSilu ? "silu" : "gelu_pytorch_tanh";
}

// What would change the numbers and is not computed.
Status RefuseOtherMechanisms(const Json& json, const std::string& file, const ModelConfig& c) {
  ConfigFields fields(json, file);
  for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    if (fields.Float(key, 0, -1e30, 1e30) != 0) fields.Fail(ErrorCode::kUnsupported, key, "is not supported");
  }
  if (fields.Bool("use_bidirectional_attention", false)) {
    fields.Fail(ErrorCode::kUnsupported, "use_bidirectional_attention", "is not supported");
  }
  const std::string activation = fields.String(ActivationKey(*c.arch), ActivationName(*c.arch));
  if (activation != ActivationName(*c.arch)) {
    fields.Fail(ErrorCode::kUnsupported, ActivationKey(*c.arch), "is '{}', supported is {}", activation,
                ActivationName(*c.arch));
  }
  return fields.status();
}

// The parameters of Llama 3's formula that give these factors; null if none do. Between the two bounds the
// inverse of a factor is linear in the frequency, and only ratios of the parameters count: low_freq_factor
// = 1.
Json FindLlama3Rope(const ModelConfig& c) {
  constexpr double kTwoPi = 6.283185307179586;
  const double factor = *std::max_element(c.rope_factors.begin(), c.rope_factors.end());
  std::vector<std::pair<double, double>> ramp;  // 1 / wavelength, smooth
  for (size_t i = 0; i < c.rope_factors.size(); ++i) {
    const double f = c.rope_factors[i];
    if (f < 1.0001 || f > factor * 0.9999) continue;
    const double wavelength =
        kTwoPi * std::pow(c.rope_theta, 2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim));
    ramp.push_back({1 / wavelength, (1 / f - 1 / factor) / (1 - 1 / factor)});
  }
  if (ramp.size() < 2) return nullptr;
  const auto [x0, y0] = ramp.front();
  const auto [x1, y1] = ramp.back();
  const double slope = (y1 - y0) / (x1 - x0), offset = y0 - slope * x0;
  const double high = 1 - 1 / offset;
  const double original = std::round(slope * (high - 1));
  if (!(high > 1) || !(original >= 1) || original > static_cast<double>(kMaxContext)) return nullptr;
  const double rounded_high = std::round(high * 1e3) / 1e3;
  const auto again =
      Llama3RopeFactors(c.rope_theta, c.head_dim, factor, 1, rounded_high, static_cast<int64_t>(original));
  for (size_t i = 0; i < again.size(); ++i) {
    if (std::fabs(again[i] - c.rope_factors[i]) > 1e-3 * c.rope_factors[i]) return nullptr;
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", rounded_high},
          {"original_max_position_embeddings", static_cast<int64_t>(original)}};
}

}  // namespace

Result<ModelConfig> ModelConfigFromHf(const HfDirectory& directory) {
  const Json& json = directory.config;
  const std::string file = directory.path + "/config.json";
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: not a JSON object", file);
  ConfigFields fields(json, file);
  const std::string type = fields.String("model_type", "");
  RETURN_IF_ERROR(fields.status());
  ModelConfig c;
  c.arch = FindArchByHf(type);
  if (c.arch == nullptr) {
    return MakeError(ErrorCode::kUnsupported, "{}: model_type '{}' is not supported (supported: {})", file,
                     type, SupportedArchs());
  }
  c.n_layers = fields.Int("num_hidden_layers", {}, 1, kMaxLayers);
  c.d_model = fields.Int("hidden_size", {}, 1, kMaxWidth);
  c.d_ff = fields.Int("intermediate_size", {}, 1, kMaxWidth);
  c.n_heads = fields.Int("num_attention_heads", {}, 1, kMaxWidth);
  c.n_kv_heads = fields.Int("num_key_value_heads", c.n_heads, 1, kMaxWidth);
  c.head_dim = fields.Int("head_dim", c.d_model / c.n_heads, 1, kMaxWidth);
  c.vocab_size = fields.Int("vocab_size", {}, 1, kMaxVocab);
  c.context_length = fields.Int("max_position_embeddings", 2048, 1, kMaxContext);
  c.rms_eps = static_cast<float>(fields.Float("rms_norm_eps", 1e-6, 0, 1));
  c.tied_embeddings = fields.Bool("tie_word_embeddings", c.arch->tied_by_default);
  c.attention_scale = static_cast<float>(
      1 / std::sqrt(fields.Float("query_pre_attn_scalar", static_cast<double>(c.head_dim), 0, 1e9)));
  RETURN_IF_ERROR(fields.status());
  RETURN_IF_ERROR(RefuseOtherMechanisms(json, file, c));
  RETURN_IF_ERROR(ReadRopes(json, file, c));
  RETURN_IF_ERROR(ReadWindows(json, file, c));
  RETURN_IF_ERROR(CheckConfig(c, file));
  return c;
}

Result<Json> ModelConfigToHf(const ModelConfig& c) {
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
               {ActivationKey(*c.arch), ActivationName(*c.arch)}};
  if (c.rope_theta_local > 0) json["rope_local_base_freq"] = c.rope_theta_local;
  if (c.rope_linear_factor != 1) {
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", c.rope_linear_factor}};
  }
  if (!c.rope_factors.empty()) {
    json["rope_scaling"] = FindLlama3Rope(c);
    if (json["rope_scaling"].is_null()) {
      return MakeError(ErrorCode::kUnsupported,
                       "rope_freqs.weight: config.json has no formula for these factors");
    }
  }
  if (c.sliding_window > 0) {
    if (c.arch->hf_window_switch != nullptr) json[c.arch->hf_window_switch] = true;
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

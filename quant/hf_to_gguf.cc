// A Hugging Face folder as llama.cpp's convert_hf_to_gguf.py would convert it (conversion/base.py, llama.py,
// gemma.py; gguf-py's metadata.py).
#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <map>

#include "quant/export_plan.h"
#include "quant/tensor_names.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

// "SmolLM2-135M-instruct" becomes "SmolLM2 135M Instruct" (metadata.py, id_to_title).
std::string TitleOf(const std::string& folder) {
  std::string title;
  for (size_t i = 0; i < folder.size();) {
    const size_t end = std::min(folder.find_first_of("- ", i), folder.size());
    std::string word = folder.substr(i, end - i);
    i = end + 1;
    if (word.empty()) continue;
    const bool has_upper =
        std::any_of(word.begin(), word.end(), [](unsigned char c) { return std::isupper(c); });
    const bool is_version =
        std::isdigit(static_cast<unsigned char>(word[0])) ||
        (word.size() > 1 && word[0] == 'v' && std::isdigit(static_cast<unsigned char>(word[1])));
    if (!has_upper && !is_version)
      word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
    title += (title.empty() ? "" : " ") + word;
  }
  return title;
}

// "135M" (utility.py, model_weight_count_rounded_notation).
std::string SizeLabel(int64_t n_weights) {
  const double n = static_cast<double>(n_weights);
  const auto [scaled, suffix] = n > 1e12  ? std::pair(n * 1e-12, 'T')
                                : n > 1e9 ? std::pair(n * 1e-9, 'B')
                                : n > 1e6 ? std::pair(n * 1e-6, 'M')
                                          : std::pair(n * 1e-3, 'K');
  const double whole = std::nearbyint(scaled);
  return fmt::format("{:.{}f}{}", scaled, whole >= 10 ? 0 : whole >= 1 ? 1 : 2, suffix);
}

void SetSampling(const std::optional<Json>& generation, Metadata& m) {
  if (!generation) return;
  const auto number = [&](const char* key) -> std::optional<double> {
    const auto it = generation->find(key);
    return it != generation->end() && it->is_number() ? std::optional(it->get<double>()) : std::nullopt;
  };
  if (const auto k = number("top_k"); k && std::abs(*k) < 1e9) {
    m.Set("general.sampling.top_k", {static_cast<int32_t>(*k)});
  }
  for (const auto& [key, gguf] : {std::pair("top_p", "top_p"), {"min_p", "min_p"}, {"temperature", "temp"}}) {
    if (const auto v = number(key)) {
      m.Set(std::string("general.sampling.") + gguf, {static_cast<float>(*v)});
    }
  }
}

// general.file_type: that of most weights in matrices.
WeightType MainType(const std::vector<ExportTensor>& tensors) {
  std::map<WeightType, int64_t> weights;
  for (const ExportTensor& t : tensors) {
    if (t.shape().size() >= 2) weights[t.type] += t.source.n_elements();
  }
  const auto most = std::max_element(weights.begin(), weights.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == weights.end() ? WeightType::kF32 : most->first;
}

// Ids that only config.json names (gguf-py's vocab.py, SpecialVocab).
void FillSpecialTokens(const Json& config, TokenizerSpec& spec) {
  const auto fill = [&](const char* key, std::optional<TokenId>& id) {
    const auto it = config.find(key);
    if (id || it == config.end() || !it->is_number_integer()) return;
    const int64_t value = it->get<int64_t>();
    if (value >= 0 && value < static_cast<int64_t>(spec.tokens.size())) id = static_cast<TokenId>(value);
  };
  fill("bos_token_id", spec.bos);
  fill("eos_token_id", spec.eos);
  fill("unk_token_id", spec.unk);
  fill("pad_token_id", spec.pad);
}

// The vocabulary in the embedding's size: rows without a token get unused ones (conversion/base.py,
// get_vocab_base).
Status FitVocabulary(const ModelConfig& config, const std::string& path, TokenizerSpec& spec) {
  const int64_t n = static_cast<int64_t>(spec.tokens.size());
  if (n > config.vocab_size) {
    return MakeError(ErrorCode::kCorrupt, "{}: tokenizer.json has {} tokens, the embedding only {} rows",
                     path, n, config.vocab_size);
  }
  for (int64_t i = n; i < config.vocab_size; ++i) {
    spec.tokens.push_back(fmt::format("[PAD{}]", i));
    spec.types.push_back(TokenType::kUnused);
    if (!spec.scores.empty()) spec.scores.push_back(-10000.0f);
  }
  return {};
}

Result<TokenizerSpec> TokenizerOf(const ModelFile& source, const ModelConfig& config) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(source));
  TokenizerSpec spec = tokenizer.spec();
  FillSpecialTokens(source.hf->config, spec);
  RETURN_IF_ERROR(FitVocabulary(config, source.path, spec));
  return spec;
}

// Buffers that old checkpoints carry (conversion/base.py, prepare_tensors), and the output where it is the
// embedding again.
bool IsSkipped(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attention.masked_bias") ||
         name.ends_with(".attention.bias") || (config.tied_embeddings && name == "lm_head.weight");
}

Status AddTensors(const ModelConfig& config, ExportPlan& plan) {
  const TensorTable& tensors = plan.source.tensors();
  RETURN_IF_ERROR(CheckTensors(config, Naming::kHf, tensors, plan.source.path));
  const auto places = PlacesByName(config, Naming::kHf);
  for (const TensorInfo& tensor : tensors) {
    if (IsSkipped(tensor.name, config)) continue;
    const auto place = places.find(tensor.name);
    if (place == places.end()) {
      return MakeError(ErrorCode::kUnsupported, "{}: GGUF has no place for tensor '{}' in architecture '{}'",
                       plan.source.path, tensor.name, config.arch->gguf_arch);
    }
    const TensorRow& row = *place->second.row;
    const std::string name = LayerName(row.gguf, place->second.layer);
    const bool is_vector = tensor.shape.size() < 2 || name.ends_with("_norm.weight");
    const WeightType type = is_vector ? WeightType::kF32 : tensor.type;
    plan.tensors.push_back({.name = name,
                            .type = type,
                            .wanted = type,
                            .source = tensor,
                            .transform = row.transform,
                            .head_dim = config.head_dim});
  }
  return {};
}

// rope_freqs.weight stands first and belongs to no file.
void AddRopeFactors(const std::vector<float>& factors, ExportPlan& plan) {
  if (factors.empty()) return;
  const auto* bytes = reinterpret_cast<const uint8_t*>(factors.data());
  auto owned = std::make_shared<std::vector<uint8_t>>(bytes, bytes + factors.size() * sizeof(float));
  const TensorInfo source = {
      "rope_freqs.weight", WeightType::kF32, {static_cast<int64_t>(factors.size())}, *owned};
  plan.tensors.insert(plan.tensors.begin(), {.name = source.name, .source = source});
  plan.owned.push_back(std::move(owned));
}

}  // namespace

Result<ExportPlan> PlanFromHf(ModelFile source) {
  CHECK(source.hf.has_value());
  ExportPlan plan;
  plan.source = std::move(source);
  RETURN_IF_ERROR(UnpackMatrices(*plan.source.hf));
  const HfDirectory& hf = *plan.source.hf;
  ASSIGN_OR_RETURN(const ModelConfig config, ModelConfigFromHf(hf));
  RETURN_IF_ERROR(AddTensors(config, plan));
  int64_t n_weights = 0;
  for (const ExportTensor& t : plan.tensors) n_weights += t.source.n_elements();
  AddRopeFactors(config.rope_factors, plan);

  Metadata& m = plan.metadata;
  m.Set("general.architecture", {std::string(config.arch->gguf_arch)});
  m.Set("general.type", {std::string("model")});
  std::error_code ec;
  const std::filesystem::path folder = std::filesystem::canonical(hf.path, ec);
  if (!ec) m.Set("general.name", {TitleOf(folder.filename().string())});
  m.Set("general.size_label", {SizeLabel(n_weights)});
  SetSampling(hf.generation_config, m);
  ModelConfigToGguf(config, m);
  m.Set("general.file_type", {(*FindMix(Name(MainType(plan.tensors))))->file_type});
  m.Set("general.quantization_version", {kQuantizationVersion});
  ASSIGN_OR_RETURN(const TokenizerSpec spec, TokenizerOf(plan.source, config));
  TokenizerSpecToGguf(spec, m);
  return plan;
}

}  // namespace thimble

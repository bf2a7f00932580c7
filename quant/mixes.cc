#include "quant/mixes.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <numeric>

#include "base/check.h"

namespace thimble {
namespace {

using enum WeightType;
using When = MixWhen;

constexpr uint32_t kQ2KSmall = 21;

constexpr MixRow kMixes[] = {
    {"F32", 0, kF32},
    {"F16", 1, kF16},
    {"BF16", 32, kBF16},
    {"Q8_0", 7, kQ8_0},
    {"Q4_0", 2, kQ4_0},
    {"Q4_1", 3, kQ4_1},
    {"Q5_0", 8, kQ5_0},
    {"Q5_1", 9, kQ5_1},
    {"Q2_K", 10, kQ2_K, {When::kGqa4, kQ4_K, kQ3_K}, {When::kAlways, kQ3_K}, {When::kAlways, kQ3_K}},
    {"Q2_K_S", kQ2KSmall, kQ2_K, {When::kGqa4, kQ4_K}, {}, {When::kFirstEighth, kQ4_K}},
    {"IQ2_XXS",
     19,
     kIQ2_XXS,
     {When::kGqa4, kQ4_K, kQ2_K},
     {},
     {When::kFirstEighth, kQ2_K},
     {},
     {},
     kQ2_K,
     kQ5_K},
    {"IQ2_XS",
     20,
     kIQ2_XS,
     {When::kGqa4, kQ4_K, kQ2_K},
     {},
     {When::kFirstEighth, kQ2_K},
     {},
     {},
     kQ2_K,
     kQ5_K},
    {"IQ2_S",
     28,
     kIQ2_XS,
     {When::kGqa4, kQ4_K, kIQ3_S},
     {When::kAlways, kIQ3_S},
     {When::kFirstEighth, kIQ3_S},
     {},
     {},
     kIQ3_S,
     kQ5_K},
    {"IQ2_M",
     29,
     kIQ2_S,
     {When::kGqa4, kQ4_K, kIQ3_S},
     {When::kAlways, kIQ3_S},
     {When::kFirstEighth, kIQ3_S},
     {},
     {},
     kIQ3_S,
     kQ5_K},
    {"IQ3_XXS",
     23,
     kIQ3_XXS,
     {When::kGqa4, kQ4_K},
     {When::kAlways, kIQ3_S},
     {},
     {When::kAlways, kIQ2_S},
     {},
     kIQ3_S,
     kQ5_K},
    {"IQ3_XS",
     22,
     kIQ3_S,
     {When::kGqa4, kQ4_K},
     {},
     {},
     {When::kAlways, kIQ3_XXS},
     {When::kBetween, kIQ3_XXS}},
    {"Q3_K_S", 11, kQ3_K},
    {"Q3_K_M",
     12,
     kQ3_K,
     {When::kFirstTwo, kQ5_K, kQ4_K},
     {When::kAlways, kQ4_K},
     {When::kFirstSixteenth, kQ5_K, kQ4_K}},
    {"Q3_K_L", 13, kQ3_K, {When::kAlways, kQ5_K}, {When::kAlways, kQ5_K}, {When::kAlways, kQ5_K}},
    {"Q4_K_S", 14, kQ4_K, {When::kFirstFour, kQ5_K}, {}, {When::kFirstEighth, kQ5_K}},
    {"Q4_K_M", 15, kQ4_K, {When::kMoreBits, kQ6_K}, {}, {When::kMoreBits, kQ6_K}},
    {"Q5_K_S", 16, kQ5_K},
    {"Q5_K_M", 17, kQ5_K, {When::kMoreBits, kQ6_K}, {}, {When::kMoreBits, kQ6_K}},
    {"Q6_K", 18, kQ6_K},
    {"IQ3_S", 26, kIQ3_S, {When::kGqa4, kQ4_K}},
    {"IQ3_M", 27, kIQ3_S, {When::kAlways, kQ4_K}, {When::kAlways, kQ4_K}, {When::kFirstEighth, kQ4_K}},
    {"IQ4_NL", 25, kIQ4_NL, {When::kGqa4, kQ5_K}, {}, {When::kFirstEighth, kQ5_K}},
    {"IQ4_XS", 30, kIQ4_XS, {When::kGqa4, kQ5_K}, {}, {When::kFirstEighth, kQ5_K}},
    // Thimble's own, with file types of its own.
    {.name = "T2", .file_type = 60, .base = kT2, .output = kT4},
    {.name = "T3", .file_type = 61, .base = kT3, .output = kT4},
    {.name = "T4", .file_type = 62, .base = kT4, .output = kT5},
    {.name = "T5", .file_type = 63, .base = kT5, .output = kT5},
};

constexpr std::pair<const char*, const char*> kAliases[] = {
    {"INT8", "Q8_0"}, {"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return upper;
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Matrices with "weight" at the end of their name that are not norms.
bool IsQuantizable(const MixTensor& t) {
  const auto long_dims = std::find_if(t.shape.begin(), t.shape.end(), [](int64_t d) { return d != 1; });
  return t.shape.end() - long_dims >= 2 && t.name.ends_with("weight") && !Contains(t.name, "_norm.weight");
}

int LayerOf(const std::string& name) {
  return name.starts_with("blk.") ? std::atoi(name.c_str() + 4) : -1;
}

bool IsIq2(WeightType type) {
  return type == kIQ2_XXS || type == kIQ2_XS || type == kIQ2_S;
}

// What a row becomes that is not a multiple of 256.
WeightType Fallback(WeightType wanted, int64_t row_size) {
  if (RowFits(wanted, row_size)) return wanted;
  WeightType type = wanted;
  switch (wanted) {
    case kIQ2_XXS:
    case kIQ2_XS:
    case kIQ2_S:
    case kIQ3_XXS:
    case kIQ3_S:
    case kIQ4_XS:
      type = kIQ4_NL;
      break;
    case kQ2_K:
    case kQ3_K:
      type = kQ4_0;
      break;
    case kQ4_K:
      type = kQ5_0;
      break;
    case kQ5_K:
      type = kQ5_1;
      break;
    case kQ6_K:
      type = kQ8_0;
      break;
    default:
      break;
  }
  return RowFits(type, row_size) ? type : kF16;
}

// The rules, with the counters of tensors seen so far by which they tell layers.
class Chooser {
 public:
  Chooser(const MixRow& mix, const MixOptions& options, const MixShape& shape,
          std::span<const MixTensor> tensors)
      : mix_(mix), options_(options), shape_(shape) {
    for (const MixTensor& t : tensors) {
      n_attn_v_ += Contains(t.name, "attn_v.weight");
      tied_ = tied_ && t.name != "output.weight";
    }
    for (const TypeOverride& o : options.overrides) {
      overrides_.emplace_back(std::regex(o.pattern), o.type);
    }
  }

  MixChoice Choose(const MixTensor& t) {
    if (!IsQuantizable(t)) return {t.type, t.type};
    const bool embedding = t.name == "token_embd.weight", output = t.name == "output.weight";
    if (embedding && options_.embedding_type) return Fit(t, *options_.embedding_type);
    if (output && options_.output_type) return Fit(t, *options_.output_type);
    for (const auto& [pattern, type] : overrides_) {
      if (std::regex_search(t.name, pattern)) return Fit(t, type);
    }
    if (options_.pure || !Info(mix_.base).quantized) return Fit(t, mix_.base);
    if (output || (embedding && tied_)) return ChooseOutput(t);
    if (embedding) return Fit(t, mix_.embedding.value_or(mix_.base));
    return Fit(t, ByRole(t.name));
  }

 private:
  static MixChoice Fit(const MixTensor& t, WeightType wanted) {
    return {Fallback(wanted, t.shape.back()), wanted};
  }

  // The logits' matrix: Q6_K, or Q8_0 where even the base type doesn't fit the row.
  MixChoice ChooseOutput(const MixTensor& t) const {
    if (options_.output_type) return Fit(t, *options_.output_type);
    const WeightType wanted = mix_.base == kQ8_0 ? kQ8_0 : mix_.output;
    const bool base_fits = RowFits(mix_.base, t.shape.back());
    return {Fallback(base_fits ? wanted : kQ8_0, t.shape.back()), wanted};
  }

  WeightType ByRole(const std::string& name) {
    if (Contains(name, "attn_v.weight")) {
      const WeightType type = Apply(mix_.attn_v, i_attn_v_++, n_attn_v_);
      // Eight heads share each value head in the 70B models: the matrix is small and matters.
      return Is70B() && !IsIq2(mix_.base) && (type == kQ3_K || type == kQ4_K) ? kQ5_K : type;
    }
    if (Contains(name, "attn_output.weight")) return Apply(mix_.attn_output, 0, 0);
    if (Contains(name, "ffn_down")) return Apply(mix_.ffn_down, i_ffn_down_++, shape_.n_layers);
    if (Contains(name, "attn_q.weight") || Contains(name, "attn_k.weight")) return Apply(mix_.attn_q_k, 0, 0);
    if (Contains(name, "ffn_gate")) return Apply(mix_.ffn_gate_up, i_ffn_gate_++, shape_.n_layers);
    if (Contains(name, "ffn_up")) return Apply(mix_.ffn_gate_up, i_ffn_up_++, shape_.n_layers);
    return mix_.base;
  }

  WeightType Apply(const MixRule& rule, int64_t i, int64_t n) const {
    if (rule.when == When::kNever) return mix_.base;
    return Holds(rule.when, i, n) ? rule.then : rule.otherwise.value_or(mix_.base);
  }

  bool Holds(MixWhen when, int64_t i, int64_t n) const {
    switch (when) {
      case When::kNever:
        return false;
      case When::kAlways:
        return true;
      case When::kGqa4:
        return shape_.n_kv_heads > 0 && shape_.n_heads / shape_.n_kv_heads >= 4;
      case When::kFirstTwo:
        return i < 2;
      case When::kFirstFour:
        return i < 4;
      case When::kFirstSixteenth:
        return i < n / 16;
      case When::kFirstEighth:
        return i < n / 8;
      case When::kBetween:
        return i >= n / 8 && i < 7 * n / 8;
      case When::kMoreBits:
        return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    }
    return false;
  }

  bool Is70B() const {
    return shape_.n_layers == 80 &&
           (shape_.arch == "qwen2" || (shape_.arch == "llama" && shape_.n_heads != shape_.n_kv_heads));
  }

  const MixRow& mix_;
  const MixOptions& options_;
  const MixShape& shape_;
  std::vector<std::pair<std::regex, WeightType>> overrides_;
  bool tied_ = true;
  int64_t n_attn_v_ = 0, i_attn_v_ = 0, i_ffn_down_ = 0, i_ffn_gate_ = 0, i_ffn_up_ = 0;
};

}  // namespace

std::span<const MixRow> AllMixes() {
  return kMixes;
}

Result<const MixRow*> FindMix(std::string_view name) {
  std::string wanted = Upper(name);
  for (const auto& [alias, mix] : kAliases) {
    if (wanted == alias) wanted = mix;
  }
  std::string all;
  for (const MixRow& row : kMixes) {
    if (wanted == row.name) return &row;
    all += (all.empty() ? "" : ", ") + std::string(row.name);
  }
  return MakeError(ErrorCode::kInvalidArgument, "unknown type '{}'; known: {}", name, all);
}

const MixRow* FindMixByFileType(uint32_t file_type) {
  for (const MixRow& row : kMixes) {
    if (row.file_type == file_type) return &row;
  }
  return nullptr;
}

WeightType PortableType(WeightType native, int64_t row_size) {
  CHECK(IsNative(native));
  const WeightType wanted = native == kT2 ? kQ4_K : native == kT3 ? kQ5_K : native == kT4 ? kQ6_K : kQ8_0;
  return Fallback(wanted, row_size);
}

bool NeedsImportance(const MixRow& mix, std::string_view tensor_name, WeightType type) {
  if (tensor_name == "token_embd.weight" || tensor_name == "output.weight") return false;
  return IsIq2(type) || type == kIQ3_XXS || (type == kQ2_K && mix.file_type == kQ2KSmall);
}

Result<TypeOverride> ParseTypeOverride(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "'{}' is not of the form PATTERN=TYPE", text);
  }
  const auto type = ParseWeightType(text.substr(equals + 1));
  if (!type || !Info(*type).decodable) {
    return MakeError(ErrorCode::kInvalidArgument, "'{}': unknown weight type '{}'", text,
                     text.substr(equals + 1));
  }
  return TypeOverride{std::string(text.substr(0, equals)), *type};
}

Result<MixShape> MixShapeFromMetadata(const Metadata& metadata) {
  MixShape shape{.arch = metadata.String("general.architecture").value_or("")};
  if (shape.arch.empty()) return MakeError(ErrorCode::kCorrupt, "key general.architecture is missing");
  const auto number = [&](const char* key) -> int64_t {
    const std::string name = shape.arch + "." + key;
    const auto numbers = metadata.Ints(name);  // a few families give one number per layer
    return numbers && !numbers->empty() ? numbers->front() : metadata.Int(name).value_or(0);
  };
  shape.n_layers = number("block_count");
  shape.n_heads = number("attention.head_count");
  shape.n_kv_heads = number("attention.head_count_kv");
  if (shape.n_kv_heads == 0) shape.n_kv_heads = shape.n_heads;
  if (number("expert_count") > 0) {
    return MakeError(ErrorCode::kUnsupported, "mixtures of experts are not supported");
  }
  return shape;
}

Result<std::vector<MixChoice>> ChooseTypes(const MixOptions& options, const MixShape& shape,
                                           std::span<const MixTensor> tensors) {
  ASSIGN_OR_RETURN(const MixRow* mix, FindMix(options.type));
  // The rules count tensors layer by layer, whatever their order in the file.
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(LayerOf(tensors[a].name), tensors[a].name) <
           std::pair(LayerOf(tensors[b].name), tensors[b].name);
  });
  std::vector<MixChoice> choices(tensors.size());
  try {
    Chooser chooser(*mix, options, shape, tensors);
    for (size_t i : order) choices[i] = chooser.Choose(tensors[i]);
  } catch (const std::regex_error& e) {
    return MakeError(ErrorCode::kInvalidArgument, "a tensor type pattern is not a regular expression: {}",
                     e.what());
  }
  return choices;
}

}  // namespace thimble

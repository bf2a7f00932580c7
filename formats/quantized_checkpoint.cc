#include "formats/quantized_checkpoint.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <optional>
#include <unordered_set>

namespace thimble {
namespace {

enum class Method { kGptq, kAwq, kCompressedTensors };

struct Scheme {
  int bits = 0;
  int64_t group_size = -1;  // -1: the whole row
};

struct QuantizationConfig {
  Method method;
  int zero_shift = 0;           // GPTQ v1 stores each zero less 1
  std::vector<Scheme> schemes;  // the shapes of a matrix's tensors tell which one it has
};

int64_t Ceil(int64_t n, int64_t by) {
  return (n + by - 1) / by;
}

std::string LowerText(const Json& object, const char* key) {
  const auto it = object.find(key);
  std::string text = it != object.end() && it->is_string() ? it->get<std::string>() : "";
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

Result<int64_t> Integer(const Json& object, const char* key, int64_t otherwise, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return otherwise;
  if (!it->is_number_integer()) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"{}\" is not an integer: {}", where, key, DumpJson(*it));
  }
  return it->get<int64_t>();
}

Result<Scheme> ParseScheme(const Json& object, const char* bits_key, std::span<const int> supported,
                           const std::string& where) {
  ASSIGN_OR_RETURN(const int64_t bits, Integer(object, bits_key, 0, where));
  if (std::find(supported.begin(), supported.end(), bits) == supported.end()) {
    return MakeError(ErrorCode::kUnsupported, "{}: \"{}\" is {}; supported are {}", where, bits_key, bits,
                     fmt::join(supported, ", "));
  }
  ASSIGN_OR_RETURN(const int64_t group_size, Integer(object, "group_size", -1, where));
  if (group_size == 0 || group_size < -1) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"group_size\" is {}", where, group_size);
  }
  return Scheme{static_cast<int>(bits), group_size};
}

Status CheckLayout(const std::string& layout, std::initializer_list<std::string_view> supported,
                   const char* method, const std::string& where) {
  if (std::find(supported.begin(), supported.end(), layout) != supported.end()) return {};
  return MakeError(ErrorCode::kUnsupported, "{}: {} in the layout '{}' is not supported, only '{}'", where,
                   method, layout, fmt::join(supported, "', '"));
}

Result<QuantizationConfig> ParseGptq(const Json& json, const std::string& where) {
  constexpr std::array kBits = {2, 3, 4, 8};
  QuantizationConfig config{.method = Method::kGptq};
  std::string layout = LowerText(json, "checkpoint_format");
  if (layout.empty()) layout = "gptq";
  if (const auto marlin = json.find("is_marlin_format"); marlin != json.end() && *marlin == true)
    layout = "marlin";
  RETURN_IF_ERROR(CheckLayout(layout, {"gptq", "gptq_v2"}, "GPTQ", where));
  config.zero_shift = layout == "gptq" ? 1 : 0;
  ASSIGN_OR_RETURN(const Scheme scheme, ParseScheme(json, "bits", kBits, where));
  config.schemes.push_back(scheme);
  return config;
}

Result<QuantizationConfig> ParseAwq(const Json& json, const std::string& where) {
  constexpr std::array kBits = {4};
  QuantizationConfig config{.method = Method::kAwq};
  std::string layout = LowerText(json, "version");                    // AutoAWQ
  if (layout.empty()) layout = LowerText(json, "checkpoint_format");  // GPTQModel
  if (layout.empty()) layout = "gemm";
  RETURN_IF_ERROR(CheckLayout(layout, {"gemm"}, "AWQ", where));
  ASSIGN_OR_RETURN(const Scheme scheme,
                   ParseScheme(json, json.contains("bits") ? "bits" : "w_bit", kBits, where));
  config.schemes.push_back(scheme);
  return config;
}

Result<QuantizationConfig> ParseCompressedTensors(const Json& json, const std::string& where) {
  constexpr std::array kBits = {2, 4, 8};
  QuantizationConfig config{.method = Method::kCompressedTensors};
  const std::string format = LowerText(json, "format");
  const auto groups = json.find("config_groups");
  if (groups == json.end() || !groups->is_object()) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"config_groups\" is missing or not an object", where);
  }
  for (const auto& [name, group] : groups->items()) {
    const std::string group_where = fmt::format("{}.config_groups.{}", where, name);
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end() || !weights->is_object())
      continue;  // of activations only
    const std::string own = LowerText(group, "format");
    RETURN_IF_ERROR(CheckLayout(own.empty() ? format : own,
                                {"pack-quantized", "int-quantized", "naive-quantized"}, "compressed-tensors",
                                group_where));
    if (LowerText(*weights, "type") == "float") {
      return MakeError(ErrorCode::kUnsupported, "{}: weights of type float are not supported", group_where);
    }
    ASSIGN_OR_RETURN(const Scheme scheme, ParseScheme(*weights, "num_bits", kBits, group_where + ".weights"));
    config.schemes.push_back(scheme);
  }
  return config;
}

Result<QuantizationConfig> ParseConfig(const Json& json, const std::string& path) {
  const std::string where = path + "/config.json: quantization_config";
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "{} is not an object", where);
  const std::string method = LowerText(json, "quant_method");
  if (method == "gptq") return ParseGptq(json, where);
  if (method == "awq") return ParseAwq(json, where);
  if (method == "compressed-tensors") return ParseCompressedTensors(json, where);
  return MakeError(ErrorCode::kUnsupported,
                   "{}: quant_method '{}' is not supported; supported are gptq, awq and compressed-tensors",
                   where, method);
}

// The tensors of one module, and the matrix that they stand for.
class Module {
 public:
  Module(const TensorTable& tensors, const std::string& path, std::string name, CodedMatrix* matrix)
      : tensors_(tensors), path_(path), name_(std::move(name)), matrix_(*matrix) {
    matrix_.name = name_ + ".weight";
  }

  Status ReadQweight(const QuantizationConfig& config, const Scheme& scheme) {
    ASSIGN_OR_RETURN(const TensorInfo* codes, Need(".qweight"));
    ASSIGN_OR_RETURN(const TensorInfo* zeros, Need(".qzeros"));
    ASSIGN_OR_RETURN(const TensorInfo* scales, Need(".scales"));
    const TensorInfo* g_idx = Find(".g_idx");
    const bool awq = config.method == Method::kAwq;
    for (const TensorInfo* t : {codes, zeros, scales}) RETURN_IF_ERROR(CheckMatrix(*t));
    CodedMatrix& m = matrix_;
    m.format = awq ? "AWQ" : "GPTQ";
    m.bits = scheme.bits;
    m.n_groups = scales->shape[0];
    m.n_out = scales->shape[1];
    m.n_in = awq                ? codes->shape[0]
             : g_idx != nullptr ? g_idx->n_elements()
                                : codes->shape[0] * 32 / scheme.bits;
    const int64_t words = Ceil(m.n_out * m.bits, 32);  // of a line of all rows
    if (awq) {
      RETURN_IF_ERROR(Check(*codes, {WeightType::kI32}, {m.n_in, words}));
    } else {
      RETURN_IF_ERROR(Check(*codes, {WeightType::kI32}, {Ceil(m.n_in * m.bits, 32), m.n_out}));
    }
    RETURN_IF_ERROR(Check(*zeros, {WeightType::kI32}, {m.n_groups, words}));
    m.lines_are_columns = awq;
    m.codes = {.data = codes->bytes.data(),
               .bits = m.bits,
               .line_step = awq ? words : 1,
               .word_step = awq ? 1 : m.n_out,
               .interleaved = awq};
    m.zeros = {
        .data = zeros->bytes.data(), .bits = m.bits, .line_step = words, .word_step = 1, .interleaved = awq};
    m.zero_shift = config.zero_shift;
    RETURN_IF_ERROR(SetScales(*scales, 1, m.n_out));
    return SetGroups(awq ? nullptr : g_idx, scheme);
  }

  Status ReadPacked(const Scheme& scheme) {
    ASSIGN_OR_RETURN(const TensorInfo* codes, Need(".weight_packed"));
    ASSIGN_OR_RETURN(const TensorInfo* shape, Need(".weight_shape"));
    RETURN_IF_ERROR(CheckMatrix(*codes));
    ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, Integers(*shape));
    CodedMatrix& m = matrix_;
    m.bits = scheme.bits;
    m.n_out = codes->shape[0];
    const int64_t words = codes->shape[1];
    if (sizes.size() != 2 || sizes[0] != m.n_out || sizes[1] < 1 || sizes[1] > words * 32 ||
        Ceil(sizes[1] * m.bits, 32) != words) {
      return MakeError(
          ErrorCode::kCorrupt, "{}: tensor '{}' says [{}], but '{}' has [{}] words of {}-bit codes", path_,
          shape->name, fmt::join(sizes, ", "), codes->name, fmt::join(codes->shape, ", "), m.bits);
    }
    m.n_in = sizes[1];
    RETURN_IF_ERROR(Check(*codes, {WeightType::kI32}, {m.n_out, words}));
    m.codes = {.data = codes->bytes.data(), .bits = m.bits, .line_step = words, .word_step = 1};
    return ReadCompressedScales(scheme);
  }

  Status ReadInt8(const Scheme& scheme) {
    ASSIGN_OR_RETURN(const TensorInfo* codes, Need(".weight"));
    RETURN_IF_ERROR(CheckMatrix(*codes));
    CodedMatrix& m = matrix_;
    m.bits = 8;
    m.n_out = codes->shape[0];
    m.n_in = codes->shape[1];
    m.codes = Bytes(*codes, m.n_in, 1);
    return ReadCompressedScales(scheme);
  }

  // Names of the tensors that the matrix is made of.
  const std::vector<std::string>& used() const { return used_; }

 private:
  static BitGrid Bytes(const TensorInfo& t, int64_t line_step, int64_t step) {
    return {.data = t.bytes.data(),
            .bits = 8,
            .word_bits = 8,
            .line_step = line_step,
            .word_step = step,
            .twos_complement = true};
  }

  // weight_scale is [n_out, groups], [n_out, 1], or one number for the whole matrix.
  Status ReadCompressedScales(const Scheme& scheme) {
    CodedMatrix& m = matrix_;
    m.format = "compressed-tensors";
    ASSIGN_OR_RETURN(const TensorInfo* scales, Need(".weight_scale"));
    const TensorInfo* zeros = Find(".weight_zero_point");
    const bool single = scales->n_elements() == 1;
    m.n_groups = single || scales->shape.size() != 2 ? 1 : scales->shape[1];
    if (!single) RETURN_IF_ERROR(Check(*scales, {}, {m.n_out, m.n_groups}));
    RETURN_IF_ERROR(SetScales(*scales, single ? 0 : m.n_groups, single ? 0 : 1));
    if (zeros != nullptr && zeros->type == WeightType::kI32) {
      RETURN_IF_ERROR(Check(*zeros, {WeightType::kI32}, {Ceil(m.n_out * m.bits, 32), m.n_groups}));
      m.zeros = {.data = zeros->bytes.data(), .bits = m.bits, .line_step = 1, .word_step = m.n_groups};
    } else if (zeros != nullptr) {
      RETURN_IF_ERROR(Check(*zeros, {WeightType::kI8}, scales->shape));
      m.zeros = single ? Bytes(*zeros, 0, 0) : Bytes(*zeros, 1, m.n_groups);
      m.zero_shift = (1 << (m.bits - 1)) - 128;
    }
    return SetGroups(Find(".weight_g_idx"), scheme);
  }

  const TensorInfo* Find(const char* suffix) {
    const TensorInfo* tensor = tensors_.Find(name_ + suffix);
    if (tensor == nullptr) return nullptr;
    matrix_.bytes += tensor->bytes.size();
    used_.push_back(tensor->name);
    return tensor;
  }

  Result<const TensorInfo*> Need(const char* suffix) {
    const TensorInfo* tensor = Find(suffix);
    if (tensor != nullptr) return tensor;
    return MakeError(ErrorCode::kNotFound, "{}: tensor '{}{}' is missing", path_, name_, suffix);
  }

  Status CheckMatrix(const TensorInfo& t) const {
    if (t.shape.size() == 2 && t.n_elements() > 0) return {};
    return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has shape [{}], not that of a matrix", path_,
                     t.name, fmt::join(t.shape, ", "));
  }

  // No types: any.
  Status Check(const TensorInfo& t, std::initializer_list<WeightType> types,
               const std::vector<int64_t>& shape) const {
    if (types.size() > 0 && std::find(types.begin(), types.end(), t.type) == types.end()) {
      return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}, which is not supported there",
                       path_, t.name, Name(t.type));
    }
    if (t.shape == shape) return {};
    return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has shape [{}], expected [{}] for {} bits", path_,
                     t.name, fmt::join(t.shape, ", "), fmt::join(shape, ", "), matrix_.bits);
  }

  Result<std::vector<int64_t>> Integers(const TensorInfo& t) const {
    if (t.type != WeightType::kI32 && t.type != WeightType::kI64) {
      return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}, expected I32 or I64", path_,
                       t.name, Name(t.type));
    }
    const size_t size = Info(t.type).block_bytes;
    std::vector<int64_t> out(static_cast<size_t>(t.n_elements()));
    for (size_t i = 0; i < out.size(); ++i) {
      int32_t small;
      std::memcpy(&small, t.bytes.data() + i * size, sizeof(small));
      out[i] = small;
      if (size == sizeof(int64_t)) std::memcpy(&out[i], t.bytes.data() + i * size, size);
    }
    return out;
  }

  Status SetScales(const TensorInfo& t, int64_t row_step, int64_t group_step) {
    if (t.type != WeightType::kF16 && t.type != WeightType::kBF16 && t.type != WeightType::kF32) {
      return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}, expected F16, BF16 or F32",
                       path_, t.name, Name(t.type));
    }
    matrix_.scales = t.bytes.data();
    matrix_.scale_type = t.type;
    matrix_.scale_row_step = row_step;
    matrix_.scale_group_step = group_step;
    return {};
  }

  // Each column's group, as `g_idx` gives it (where it holds no -1, which means unset), or in order.
  Status SetGroups(const TensorInfo* g_idx, const Scheme& scheme) {
    CodedMatrix& m = matrix_;
    std::vector<int64_t> groups;
    if (g_idx != nullptr) {
      RETURN_IF_ERROR(Check(*g_idx, {}, {m.n_in}));
      ASSIGN_OR_RETURN(groups, Integers(*g_idx));
      if (std::find(groups.begin(), groups.end(), -1) != groups.end()) groups.clear();
    }
    if (groups.empty()) {
      const int64_t size = scheme.group_size == -1 ? m.n_in : scheme.group_size;
      if (Ceil(m.n_in, size) != m.n_groups) {
        return MakeError(ErrorCode::kCorrupt,
                         "{}: '{}' has {} groups of scales, which are not {} columns by {}", path_, m.name,
                         m.n_groups, m.n_in, size);
      }
      for (int64_t j = 0; j < m.n_in; ++j) groups.push_back(j / size);
    }
    for (const int64_t group : groups) {
      if (group < 0 || group >= m.n_groups) {
        return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' holds group {}, but there are {}", path_,
                         g_idx->name, group, m.n_groups);
      }
    }
    m.group_of.assign(groups.begin(), groups.end());
    return {};
  }

  const TensorTable& tensors_;
  const std::string& path_;
  std::string name_;
  CodedMatrix& matrix_;
  std::vector<std::string> used_;
};

// The module of which `tensor` is the codes.
std::optional<std::string> ModuleOf(const TensorInfo& tensor, Method method, const TensorTable& tensors) {
  const auto module = [&](std::string_view suffix) -> std::optional<std::string> {
    if (!tensor.name.ends_with(suffix)) return std::nullopt;
    return tensor.name.substr(0, tensor.name.size() - suffix.size());
  };
  if (method != Method::kCompressedTensors) return module(".qweight");
  if (auto name = module(".weight_packed")) return name;
  auto name = module(".weight");
  const bool coded =
      name && tensor.type == WeightType::kI8 && tensors.Find(*name + ".weight_scale") != nullptr;
  return coded ? name : std::nullopt;
}

}  // namespace

Result<std::vector<CodedMatrix>> TakeCodedMatrices(const Json& quantization_config, const std::string& path,
                                                   TensorTable& tensors) {
  ASSIGN_OR_RETURN(const QuantizationConfig config, ParseConfig(quantization_config, path));
  std::vector<CodedMatrix> matrices;
  std::unordered_set<std::string> taken;
  for (const TensorInfo& tensor : tensors) {
    const std::optional<std::string> name = ModuleOf(tensor, config.method, tensors);
    if (!name) continue;
    // The first scheme that the shapes fit; the last one's error if there is none.
    Status status = MakeError(ErrorCode::kCorrupt,
                              "{}: tensor '{}' is quantized, but quantization_config does not say how", path,
                              tensor.name);
    for (const Scheme& scheme : config.schemes) {
      CodedMatrix matrix;
      Module module(tensors, path, *name, &matrix);
      status = config.method != Method::kCompressedTensors ? module.ReadQweight(config, scheme)
               : tensor.type == WeightType::kI8            ? module.ReadInt8(scheme)
                                                           : module.ReadPacked(scheme);
      if (!status) continue;
      taken.insert(module.used().begin(), module.used().end());
      // How to round activations, which stay as they are.
      for (const char* suffix : {".input_scale", ".input_zero_point"}) taken.insert(*name + suffix);
      matrices.push_back(std::move(matrix));
      break;
    }
    RETURN_IF_ERROR(status);
  }
  TensorTable rest;
  for (const TensorInfo& tensor : tensors) {
    if (!taken.contains(tensor.name)) rest.Add(tensor);
  }
  tensors = std::move(rest);
  return matrices;
}

}  // namespace thimble

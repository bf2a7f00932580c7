#include "formats/peft_adapter.h"

#include <cmath>
#include <filesystem>
#include <regex>

#include "base/file.h"

namespace thimble {
namespace {

constexpr size_t kMaxPattern = 256;  // std::regex recurses over the pattern and the text
constexpr const char* kConfigName = "/adapter_config.json";
constexpr const char* kWeightsName = "/adapter_model.safetensors";

std::regex ModulePattern(const std::string& key) {
  return std::regex("(.*\\.)?(" + key + ")");
}

Status CheckPattern(const std::string& key, const std::string& where) {
  if (key.size() > kMaxPattern) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: a pattern of {} bytes is too long", where, key.size());
  }
  try {
    ModulePattern(key);
  } catch (const std::regex_error&) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: '{}' is not a regular expression", where, key);
  }
  return {};
}

template <typename T>
const T* FindPattern(const std::map<std::string, T>& patterns, const std::string& module) {
  for (const auto& [key, value] : patterns) {
    try {
      if (std::regex_match(module, ModulePattern(key))) return &value;
    } catch (const std::regex_error&) {  // too complex for this text: no match, as far as can be said
    }
  }
  return nullptr;
}

// Reads optional fields and keeps the first error.
class Fields {
 public:
  Fields(const Json& json, std::string source) : json_(json), source_(std::move(source)) {}

  const Json* Find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  void Read(const char* key, bool* out) {
    if (const Json* value = Find(key))
      value->is_boolean() ? void(*out = value->get<bool>()) : Fail(key, "true or false");
  }
  void Read(const char* key, std::string* out) {
    if (const Json* value = Find(key))
      value->is_string() ? void(*out = value->get<std::string>()) : Fail(key, "a string");
  }
  void Read(const char* key, double* out) {
    if (const Json* value = Find(key)) ReadNumber(*value, key, out);
  }
  void Read(const char* key, int64_t* out) {
    if (const Json* value = Find(key)) ReadRank(*value, key, out);
  }
  template <typename T>
  void ReadPatterns(const char* key, std::map<std::string, T>* out) {
    const Json* value = Find(key);
    if (!value) return;
    if (!value->is_object()) return Fail(key, "an object");
    for (const auto& [pattern, entry] : value->items()) {
      if (const Status status = CheckPattern(pattern, source_ + ": " + key); !status) return Keep(status);
      if constexpr (std::is_same_v<T, double>)
        ReadNumber(entry, key, &(*out)[pattern]);
      else
        ReadRank(entry, key, &(*out)[pattern]);
    }
  }
  // A list of names, or one string (a regular expression, or "all-linear").
  void ReadNames(const char* key, std::vector<std::string>* out) {
    const Json* value = Find(key);
    if (!value) return;
    if (value->is_string()) return out->push_back(value->get<std::string>());
    if (!value->is_array()) return Fail(key, "a list of names");
    for (const Json& name : *value) {
      if (!name.is_string()) return Fail(key, "a list of names");
      out->push_back(name.get<std::string>());
    }
  }
  const Status& status() const { return status_; }

 private:
  void Keep(const Status& status) {
    if (status_) status_ = status;
  }
  void Fail(const char* key, const char* expected) {
    Keep(MakeError(ErrorCode::kCorrupt, "{}: \"{}\" is not {}", source_, key, expected));
  }
  void ReadNumber(const Json& value, const char* key, double* out) {
    if (!value.is_number() || !std::isfinite(value.get<double>())) return Fail(key, "a number");
    *out = value.get<double>();
  }
  void ReadRank(const Json& value, const char* key, int64_t* out) {
    if (!value.is_number_integer() || value.get<double>() < 1 || value.get<double>() > 65536) {
      return Fail(key, "a rank from 1 to 65536");
    }
    *out = value.get<int64_t>();
  }

  const Json& json_;
  std::string source_;
  Status status_;
};

Result<PeftLoraConfig> ParseLoraConfig(const Json& json, const std::string& source) {
  PeftLoraConfig lora;
  Fields fields(json, source);
  fields.Read("r", &lora.r);
  fields.Read("lora_alpha", &lora.lora_alpha);
  fields.Read("lora_dropout", &lora.lora_dropout);
  fields.ReadNames("target_modules", &lora.target_modules);
  fields.ReadPatterns("rank_pattern", &lora.rank_pattern);
  fields.ReadPatterns("alpha_pattern", &lora.alpha_pattern);
  fields.Read("use_rslora", &lora.use_rslora);
  fields.Read("use_dora", &lora.use_dora);
  fields.Read("fan_in_fan_out", &lora.fan_in_fan_out);
  fields.Read("bias", &lora.bias);
  fields.Read("base_model_name_or_path", &lora.base_model_name_or_path);
  RETURN_IF_ERROR(fields.status());
  return lora;
}

}  // namespace

double PeftLoraConfig::Scale(const std::string& module) const {
  const int64_t* rank = FindPattern(rank_pattern, module);
  const double* alpha = FindPattern(alpha_pattern, module);
  const double module_rank = static_cast<double>(rank ? *rank : r);
  return (alpha ? *alpha : lora_alpha) / (use_rslora ? std::sqrt(module_rank) : module_rank);
}

Json ToJson(const PeftLoraConfig& lora) {
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", lora.base_model_name_or_path},
          {"inference_mode", true},
          {"r", lora.r},
          {"lora_alpha", lora.lora_alpha},
          {"lora_dropout", lora.lora_dropout},
          {"target_modules", lora.target_modules},
          {"rank_pattern", lora.rank_pattern},
          {"alpha_pattern", lora.alpha_pattern},
          {"use_rslora", lora.use_rslora},
          {"use_dora", lora.use_dora},
          {"fan_in_fan_out", lora.fan_in_fan_out},
          {"bias", lora.bias},
          {"init_lora_weights", true},
          {"modules_to_save", nullptr}};
}

Result<PeftAdapter> ReadPeftAdapter(const std::string& directory) {
  PeftAdapter adapter{.path = directory};
  const std::string config_path = directory + kConfigName;
  ASSIGN_OR_RETURN(adapter.json, ReadJsonFile(config_path));
  if (!adapter.json.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: not a JSON object", config_path);
  const auto type = adapter.json.find("peft_type");
  if (type == adapter.json.end() || !type->is_string()) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"peft_type\" is missing or not a string", config_path);
  }
  adapter.peft_type = type->get<std::string>();
  if (adapter.peft_type == "LORA") {
    ASSIGN_OR_RETURN(adapter.lora, ParseLoraConfig(adapter.json, config_path));
  }
  std::error_code ec;
  if (!std::filesystem::exists(directory + kWeightsName, ec) &&
      std::filesystem::exists(directory + "/adapter_model.bin", ec)) {
    return MakeError(
        ErrorCode::kUnsupported,
        "{}: the weights are a pickle (adapter_model.bin); save them as safetensors with PEFT first",
        directory);
  }
  ASSIGN_OR_RETURN(adapter.weights, ReadSafetensors(directory + kWeightsName));
  for (const auto& [key, text] : adapter.weights.metadata) {
    if (key.starts_with(kNotePrefix)) adapter.notes[key] = text;
  }
  return adapter;
}

Status WritePeftAdapter(const std::string& directory, const Json& config, const TensorTable& tensors,
                        const AdapterNotes& notes) {
  std::error_code ec;
  std::filesystem::create_directories(directory, ec);
  if (ec) return MakeError(ErrorCode::kIo, "{}: cannot create the folder: {}", directory, ec.message());
  // The config is complete on disk before the weights take their name, so that a full disk changes neither.
  ASSIGN_OR_RETURN(AtomicFile config_file, AtomicFile::Create(directory + kConfigName));
  RETURN_IF_ERROR(config_file.Write(DumpJson(config, 2) + "\n"));
  std::map<std::string, std::string> metadata = notes;
  metadata["format"] = "pt";  // Transformers refuses a file without it
  RETURN_IF_ERROR(WriteSafetensors(directory + kWeightsName, tensors, metadata));
  return config_file.Commit();
}

}  // namespace thimble

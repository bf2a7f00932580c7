#include "formats/hf_directory.h"

#include <filesystem>

#include "base/file.h"
#include "formats/quantized_checkpoint.h"

namespace thimble {
namespace {

Result<std::optional<Json>> ReadOptionalJson(const std::string& path) {
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return std::nullopt;
  ASSIGN_OR_RETURN(Json value, ReadJsonFile(path));
  if (!value.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: not a JSON object", path);
  return value;
}

// "chat_template" is a string, or a list of {"name", "template"} with one named "default".
std::optional<std::string> TemplateFromConfig(const Json& config) {
  const auto value = config.find("chat_template");
  if (value == config.end()) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) return std::nullopt;
  for (const Json& entry : *value) {
    if (entry.is_object() && entry.value("name", Json()) == "default" &&
        entry.value("template", Json()).is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  return std::nullopt;
}

}  // namespace

Result<HfDirectory> ReadHfDirectory(const std::string& path) {
  HfDirectory out{.path = path};
  ASSIGN_OR_RETURN(std::optional<Json> config, ReadOptionalJson(path + "/config.json"));
  if (!config) {
    return MakeError(ErrorCode::kNotFound, "{}: there is no config.json, so this is not a model folder",
                     path);
  }
  out.config = *std::move(config);
  ASSIGN_OR_RETURN(out.generation_config, ReadOptionalJson(path + "/generation_config.json"));
  ASSIGN_OR_RETURN(out.tokenizer, ReadOptionalJson(path + "/tokenizer.json"));
  ASSIGN_OR_RETURN(out.tokenizer_config, ReadOptionalJson(path + "/tokenizer_config.json"));
  const std::string template_path = path + "/chat_template.jinja";
  std::error_code ec;
  if (std::filesystem::exists(template_path, ec)) {
    ASSIGN_OR_RETURN(out.chat_template, ReadFile(template_path));
  } else if (out.tokenizer_config) {
    out.chat_template = TemplateFromConfig(*out.tokenizer_config);
  }
  ASSIGN_OR_RETURN(out.weights, ReadSafetensorsDirectory(path));
  if (const auto config = out.config.find("quantization_config");
      config != out.config.end() && !config->is_null()) {
    ASSIGN_OR_RETURN(out.coded, TakeCodedMatrices(*config, path, out.weights.tensors));
  }
  return out;
}

Status UnpackMatrices(HfDirectory& directory) {
  for (const CodedMatrix& matrix : directory.coded) {
    ASSIGN_OR_RETURN(ImportedTensor imported, ChooseImport(matrix, directory.path));
    auto bytes = std::make_shared<std::vector<uint8_t>>(UnpackMatrix(matrix, imported.type));
    TensorInfo tensor = {matrix.name, imported.type, {matrix.n_out, matrix.n_in}, *bytes};
    if (!directory.weights.tensors.Add(std::move(tensor))) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' is there twice, quantized and not",
                       directory.path, matrix.name);
    }
    directory.owned.push_back(std::move(bytes));
    directory.imported.push_back(std::move(imported));
  }
  directory.coded.clear();
  return {};
}

}  // namespace thimble

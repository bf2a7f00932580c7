#include "quant/inspect.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>

#include "formats/gguf_lora.h"
#include "formats/peft_adapter.h"
#include "model/config.h"
#include "quant/convert_adapter.h"
#include "quant/export_plan.h"
#include "quant/mixes.h"
#include "text/load_tokenizer.h"
#include "text/pre_tokenizer.h"

namespace thimble {
namespace {

constexpr size_t kMaxArray = 16;  // longer ones are summarized

Json MetadataJson(const MetadataValue& value) {
  if (value.is_array() && value.size() > kMaxArray) {
    return {{"type", value.AsStrings()  ? "strings"
                     : value.AsFloats() ? "numbers"
                                        : "bools"},
            {"length", value.size()}};
  }
  return std::visit(
      [](const auto& v) {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, StringList>)
          return Json(v.ToVector());
        else
          return Json(v);
      },
      value.storage());
}

Json MetadataJson(const Metadata& metadata) {
  Json out = Json::object();
  for (const auto& [key, value] : metadata.entries()) out[key] = MetadataJson(value);
  return out;
}

// A tensor as it stands in the file.
struct Stored {
  std::string name, type;
  std::vector<int64_t> shape;
  uint64_t bytes;

  int64_t n_weights() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
};

std::vector<Stored> StoredTensors(const TensorTable& tensors) {
  std::vector<Stored> out;
  for (const TensorInfo& t : tensors) out.push_back({t.name, Name(t.type), t.shape, t.bytes.size()});
  return out;
}

// n_parameters, bits_per_weight and types, the type of most bytes first.
void DescribeTensors(const std::vector<Stored>& tensors, bool with_tensors, Json& out) {
  struct Sum {
    std::string type;
    int64_t tensors = 0, weights = 0;
    uint64_t bytes = 0;
  };
  std::vector<Sum> sums;
  int64_t weights = 0;
  uint64_t bytes = 0;
  for (const Stored& t : tensors) {
    auto sum = std::find_if(sums.begin(), sums.end(), [&](const Sum& s) { return s.type == t.type; });
    if (sum == sums.end()) sum = sums.insert(sums.end(), {t.type});
    ++sum->tensors;
    sum->weights += t.n_weights();
    sum->bytes += t.bytes;
    weights += t.n_weights();
    bytes += t.bytes;
  }
  std::stable_sort(sums.begin(), sums.end(), [](const Sum& a, const Sum& b) { return a.bytes > b.bytes; });
  out["n_parameters"] = weights;
  out["bits_per_weight"] = weights > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0;
  out["types"] = Json::array();
  for (const Sum& s : sums) {
    out["types"].push_back(
        {{"type", s.type}, {"tensors", s.tensors}, {"weights", s.weights}, {"bytes", s.bytes}});
  }
  if (!with_tensors) return;
  out["tensors"] = Json::array();
  for (const Stored& t : tensors) {
    out["tensors"].push_back({{"name", t.name}, {"type", t.type}, {"shape", t.shape}, {"bytes", t.bytes}});
  }
}

// Matrices that others quantized have no type of GGUF's: "4-bit". Notes say what they are read as.
std::vector<Stored> StoredTensors(const HfDirectory& directory, Json& notes) {
  std::vector<Stored> out = StoredTensors(directory.weights.tensors);
  std::vector<ImportedTensor> imported;
  for (const CodedMatrix& m : directory.coded) {
    out.push_back({m.name, fmt::format("{}-bit", m.bits), {m.n_out, m.n_in}, m.bytes});
    if (const auto tensor = ChooseImport(m, directory.path)) {
      imported.push_back(*tensor);
    } else {
      notes.push_back(tensor.error().message);
    }
  }
  for (const std::string& line : DescribeImport(imported)) notes.push_back(line);
  return out;
}

// A mix's name that stands in a file's name: "smol.Q4_K_M.gguf" has Q4_K_M.
const MixRow* MixInName(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const auto is_part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (const MixRow& mix : AllMixes()) {
    const std::string_view wanted = mix.name;
    const size_t at = name.find(wanted), end = at + wanted.size();
    if (at == std::string::npos || (at > 0 && is_part(name[at - 1]))) continue;
    if (end == name.size() || !is_part(name[end])) return &mix;
  }
  return nullptr;
}

// Tensors whose type is not what `mix` asks for, by type.
void NoteOtherTypes(const GgufFile& file, const MixRow& mix, Json& notes) {
  const auto shape = MixShapeFromMetadata(file.metadata);
  if (!shape) return;
  std::vector<MixTensor> tensors;
  for (const TensorInfo& t : file.tensors) tensors.push_back({t.name, t.shape, t.type});
  const auto choices = ChooseTypes({.type = mix.name}, *shape, tensors);
  if (!choices) return;
  std::map<std::string, int> fallbacks, others;
  int64_t n_fallback = 0, n_other = 0, n = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const MixChoice& choice = (*choices)[i];
    const int64_t weights = file.tensors.tensors()[i].n_elements();
    n += weights;
    if (tensors[i].type == choice.wanted) continue;
    const bool expected = tensors[i].type == choice.type;
    (expected ? n_fallback : n_other) += weights;
    ++(expected ? fallbacks
                : others)[fmt::format("{} instead of {}", Name(tensors[i].type), Name(choice.wanted))];
  }
  const auto list = [](const std::map<std::string, int>& counts) {
    std::string text;
    for (const auto& [what, count] : counts)
      text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", count, what);
    return text;
  };
  const auto percent = [n](int64_t weights) {
    return 100.0 * static_cast<double>(weights) / static_cast<double>(n);
  };
  if (!fallbacks.empty()) {
    notes.push_back(
        fmt::format("{:.1f} % of the weights fell back from {}: their rows are not whole blocks ({})",
                    percent(n_fallback), mix.name, list(fallbacks)));
  }
  if (!others.empty()) {
    notes.push_back(fmt::format("{:.1f} % of the weights have other types than {} gives: {}",
                                percent(n_other), mix.name, list(others)));
  }
}

void DescribeFileType(const GgufFile& file, const std::string& path, Json& out) {
  out["file_type"] = nullptr;
  const auto number = file.metadata.Int("general.file_type");
  const MixRow* mix = number && *number >= 0 ? FindMixByFileType(static_cast<uint32_t>(*number)) : nullptr;
  const MixRow* named = MixInName(path);
  if (mix != nullptr) {
    out["file_type"] = mix->name;
    NoteOtherTypes(file, *mix, out["notes"]);
  } else if (number) {
    out["notes"].push_back(fmt::format("general.file_type is {}, which Thimble has no name for", *number));
  }
  if (mix != nullptr && named != nullptr && mix != named) {
    out["notes"].push_back(
        fmt::format("the file's name says {}, its general.file_type {}", named->name, mix->name));
  }
}

void DescribeConfig(const ModelFile& file, Json& out) {
  const auto config = file.gguf ? ModelConfigFromGguf(*file.gguf) : ModelConfigFromHf(*file.hf);
  if (!config) {
    out["config"] = nullptr;
    out["notes"].push_back("Thimble cannot run this model: " + config.error().message);
    return;
  }
  const ModelConfig& c = *config;
  out["config"] = {{"n_layers", c.n_layers},
                   {"d_model", c.d_model},
                   {"n_heads", c.n_heads},
                   {"n_kv_heads", c.n_kv_heads},
                   {"head_dim", c.head_dim},
                   {"d_ff", c.d_ff},
                   {"vocab_size", c.vocab_size},
                   {"context_length", c.context_length},
                   {"rope_theta", c.rope_theta},
                   {"sliding_window", c.sliding_window},
                   {"tied_embeddings", c.tied_embeddings}};
}

void DescribeTokenizer(const ModelFile& file, Json& out) {
  out["tokenizer"] = nullptr;
  out["chat_template"] = nullptr;
  const auto tokenizer = LoadTokenizer(file);
  if (!tokenizer) {
    out["notes"].push_back("Thimble cannot use the tokenizer: " + tokenizer.error().message);
    return;
  }
  const TokenizerSpec& spec = tokenizer->spec();
  Json special = Json::object();
  const auto add = [&](const char* name, std::optional<TokenId> id) {
    if (id) special[name] = {{"id", *id}, {"token", spec.tokens[static_cast<size_t>(*id)]}};
  };
  add("bos", spec.bos);
  add("eos", spec.eos);
  add("eot", spec.eot);
  add("unk", spec.unk);
  add("pad", spec.pad);
  out["tokenizer"] = {
      {"model", spec.model == TokenizerModel::kByteBpe ? "byte-level BPE" : "SentencePiece BPE"},
      {"pre", NameOf(spec.pre, spec.ignore_merges)},
      {"vocabulary", spec.tokens.size()},
      {"merges", spec.merges.size()},
      {"add_bos", spec.add_bos},
      {"add_eos", spec.add_eos},
      {"special", special}};
  if (!spec.chat_template.empty()) out["chat_template"] = spec.chat_template;
}

Result<Json> InspectModel(const std::string& path, bool with_tensors) {
  ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(path));
  Json out = {{"path", path}, {"kind", file.gguf ? "gguf" : "huggingface"}};
  out["architecture"] = nullptr;
  out["name"] = nullptr;
  out["bytes"] = FileBytes(file);
  out["notes"] = Json::array();
  DescribeTensors(file.gguf ? StoredTensors(file.tensors()) : StoredTensors(*file.hf, out["notes"]),
                  with_tensors, out);
  if (file.gguf) {
    const Metadata& metadata = file.gguf->metadata;
    if (const auto arch = metadata.String("general.architecture")) out["architecture"] = *arch;
    if (const auto name = metadata.String("general.name")) out["name"] = *name;
    DescribeFileType(*file.gguf, path, out);
    out["metadata"] = MetadataJson(metadata);
  } else {
    const Json& config = file.hf->config;
    if (const auto type = config.find("model_type"); type != config.end()) out["architecture"] = *type;
    if (const auto name = config.find("_name_or_path"); name != config.end()) out["name"] = *name;
    out["metadata"] = config;
  }
  DescribeConfig(file, out);
  DescribeTokenizer(file, out);
  return out;
}

Result<Json> InspectPeft(const std::string& path, bool with_tensors) {
  ASSIGN_OR_RETURN(const PeftAdapter adapter, ReadPeftAdapter(path));
  Json out = {{"path", path}, {"kind", "peft"}, {"peft_type", adapter.peft_type}};
  if (adapter.peft_type == "LORA") {
    out["rank"] = adapter.lora.r;
    out["alpha"] = adapter.lora.lora_alpha;
    out["target_modules"] = adapter.lora.target_modules;
    out["use_rslora"] = adapter.lora.use_rslora;
    out["use_dora"] = adapter.lora.use_dora;
  }
  out["base"] = adapter.lora.base_model_name_or_path;
  out["bytes"] = adapter.weights.files[0]->bytes().size();
  out["notes"] = Json::array();
  DescribeTensors(StoredTensors(adapter.weights.tensors), with_tensors, out);
  out["metadata"] = adapter.json;
  for (const auto& [key, text] : adapter.notes) out["metadata"][key] = text;
  return out;
}

Result<Json> InspectGgufLora(const std::string& path, bool with_tensors) {
  ASSIGN_OR_RETURN(const GgufLora lora, ReadGgufLora(path));
  Json out = {{"path", path}, {"kind", "gguf-lora"}, {"peft_type", "LORA"}, {"architecture", lora.arch}};
  std::vector<int64_t> ranks;
  std::vector<std::string> targets;
  for (const TensorInfo& t : lora.file.tensors) {
    if (!t.name.ends_with(".lora_a") || t.shape.empty()) continue;
    const int64_t rank = t.shape[0];
    if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) ranks.push_back(rank);
    std::string target = t.name.substr(0, t.name.rfind(".weight"));
    target = target.substr(target.rfind('.') + 1);
    if (std::find(targets.begin(), targets.end(), target) == targets.end()) targets.push_back(target);
  }
  out["rank"] = ranks.size() == 1 ? Json(ranks[0]) : Json(ranks);
  out["alpha"] = lora.alpha;
  out["target_modules"] = targets;
  out["bytes"] = lora.file.file->bytes().size();
  out["notes"] = Json::array();
  if (lora.alpha == 0) out["notes"].push_back("alpha is 0: the scale is in the weights already");
  DescribeTensors(StoredTensors(lora.file.tensors), with_tensors, out);
  out["metadata"] = MetadataJson(lora.file.metadata);
  return out;
}

}  // namespace

Result<Json> Inspect(const std::string& path, bool with_tensors) {
  if (!IsAdapter(path)) return InspectModel(path, with_tensors);
  std::error_code ec;
  return std::filesystem::is_directory(path, ec) ? InspectPeft(path, with_tensors)
                                                 : InspectGgufLora(path, with_tensors);
}

}  // namespace thimble

#include "quant/hf_export.h"

#include <algorithm>
#include <filesystem>

#include "quant/tensor_names.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

// The folder, gone again at the end if this created it and nothing was put into it.
class NewFolder {
 public:
  static Result<NewFolder> Create(const std::string& path) {
    std::error_code ec;
    NewFolder folder;
    if (std::filesystem::exists(path, ec) && !std::filesystem::is_empty(path, ec)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: exists and is not an empty folder; remove it or choose another name", path);
    }
    if (std::filesystem::create_directories(path, ec)) folder.created_ = path;
    if (ec) return MakeError(ErrorCode::kIo, "{}: cannot create the folder: {}", path, ec.message());
    return folder;
  }
  NewFolder(NewFolder&& other) noexcept : created_(std::exchange(other.created_, {})) {}
  NewFolder& operator=(NewFolder&&) = delete;
  ~NewFolder() {
    std::error_code ec;
    if (!created_.empty()) std::filesystem::remove(created_, ec);  // only if empty
  }

 private:
  NewFolder() = default;
  std::string created_;
};

WeightType DefaultType(const TensorTable& tensors) {
  int64_t n_f32 = 0, n_bf16 = 0, n_other = 0;
  for (const TensorInfo& t : tensors) {
    if (t.shape.size() < 2) continue;
    (t.type == WeightType::kF32 ? n_f32 : t.type == WeightType::kBF16 ? n_bf16 : n_other) += t.n_elements();
  }
  if (n_f32 > n_bf16 && n_f32 > n_other) return WeightType::kF32;
  return n_bf16 > n_other ? WeightType::kBF16 : WeightType::kF16;
}

Result<std::vector<ExportTensor>> HfTensors(const ModelConfig& config, const ModelFile& source,
                                            WeightType type) {
  RETURN_IF_ERROR(CheckTensors(config, Naming::kGguf, source.tensors(), source.path));
  const auto places = PlacesByName(config, Naming::kGguf);
  std::vector<ExportTensor> tensors;
  for (const TensorInfo& tensor : source.tensors()) {
    const auto place = places.find(tensor.name);
    if (place == places.end()) {
      return MakeError(ErrorCode::kUnsupported, "{}: {} has no place for tensor '{}'", source.path,
                       config.arch->hf_class, tensor.name);
    }
    const TensorRow& row = *place->second.row;
    if (row.hf == nullptr) continue;  // RoPE factors, which config.json has
    tensors.push_back({.name = LayerName(row.hf, place->second.layer),
                       .type = type,
                       .wanted = type,
                       .source = tensor,
                       .transform = row.transform,
                       .undo = true,
                       .head_dim = config.head_dim});
  }
  return tensors;
}

// One after another, a new shard where the next tensor would not fit (huggingface_hub,
// split_state_dict_into_shards_factory). Each is a range of tensors.
struct Shard {
  size_t begin = 0, end = 0;
  std::string name;
};

uint64_t Bytes(const ExportTensor& t) {
  return static_cast<uint64_t>(t.source.n_rows()) * RowBytes(t.type, t.source.row_size());
}

std::vector<Shard> SplitIntoShards(const std::vector<ExportTensor>& tensors, uint64_t max_bytes) {
  std::vector<Shard> shards = {{}};
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (bytes > 0 && bytes + Bytes(tensors[i]) > max_bytes) {
      shards.push_back({i, i, ""});
      bytes = 0;
    }
    bytes += Bytes(tensors[i]);
    shards.back().end = i + 1;
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].name = shards.size() == 1
                         ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

// All files are complete before the first takes its name.
Result<ExportStats> WriteWeights(const std::vector<ExportTensor>& tensors, const std::vector<Shard>& shards,
                                 const std::string& directory, TensorStreamer& streamer) {
  std::vector<SafetensorsWriter> writers;
  ExportStats stats;
  for (const Shard& shard : shards) {
    std::vector<TensorDeclaration> declarations;
    for (size_t i = shard.begin; i < shard.end; ++i) {
      declarations.push_back({tensors[i].name, tensors[i].type, tensors[i].shape()});
    }
    ASSIGN_OR_RETURN(SafetensorsWriter created,
                     SafetensorsWriter::Create(directory + "/" + shard.name, declarations));
    SafetensorsWriter& writer = writers.emplace_back(std::move(created));
    for (size_t i = shard.begin; i < shard.end; ++i) {
      ASSIGN_OR_RETURN(TensorReport report,
                       streamer.Write(tensors[i], {},
                                      [&](std::span<const uint8_t> bytes) { return writer.Write(bytes); }));
      stats.Add(std::move(report));
    }
  }
  for (SafetensorsWriter& writer : writers) RETURN_IF_ERROR(writer.Finish());
  return stats;
}

Json ShardIndex(const std::vector<ExportTensor>& tensors, const std::vector<Shard>& shards) {
  Json map = Json::object();
  uint64_t bytes = 0;
  for (const Shard& shard : shards) {
    for (size_t i = shard.begin; i < shard.end; ++i) {
      map[tensors[i].name] = shard.name;
      bytes += Bytes(tensors[i]);
    }
  }
  return {{"metadata", {{"total_size", bytes}}}, {"weight_map", map}};
}

// What the converter padded the vocabulary with belongs to the embedding's size, not to the tokenizer.
void DropPadding(TokenizerSpec& spec) {
  while (!spec.tokens.empty() && spec.types.back() == TokenType::kUnused &&
         spec.tokens.back() == fmt::format("[PAD{}]", spec.tokens.size() - 1)) {
    spec.tokens.pop_back();
    spec.types.pop_back();
    if (!spec.scores.empty()) spec.scores.pop_back();
  }
}

Json EndIds(const TokenizerSpec& spec) {
  std::vector<TokenId> ids;
  const auto add = [&](TokenId id) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  if (spec.eos) add(*spec.eos);
  if (spec.eot) add(*spec.eot);
  for (TokenId id : spec.extra_eog) add(id);
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(ids[0]) : Json(ids);
}

Json IdOrNull(std::optional<TokenId> id) {
  return id ? Json(*id) : Json();
}

Result<Json> ConfigJson(const ModelConfig& config, const ModelFile& source, const TokenizerSpec& spec,
                        WeightType type) {
  auto made = ModelConfigToHf(config);
  if (!made) return MakeError(made.error().code, "{}: {}", source.path, made.error().message);
  Json json = *std::move(made);
  const auto has_bias = [&](Slot slot) {
    const TensorRow* row = FindRow(*config.arch, slot);
    return row != nullptr && source.tensors().Find(LayerName(row->gguf, 0)) != nullptr;
  };
  if (has_bias(Slot::kOBias)) json["attention_bias"] = true;
  if (has_bias(Slot::kDownBias)) json["mlp_bias"] = true;
  json["bos_token_id"] = IdOrNull(spec.bos);
  json["eos_token_id"] = IdOrNull(spec.eos);
  json["pad_token_id"] = IdOrNull(spec.pad);
  json["torch_dtype"] = type == WeightType::kF32    ? "float32"
                        : type == WeightType::kBF16 ? "bfloat16"
                                                    : "float16";
  return json;
}

Json GenerationJson(const Metadata& metadata, const TokenizerSpec& spec) {
  Json json = {{"bos_token_id", IdOrNull(spec.bos)},
               {"eos_token_id", EndIds(spec)},
               {"pad_token_id", IdOrNull(spec.pad)}};
  if (const auto k = metadata.Int("general.sampling.top_k")) json["top_k"] = *k;
  for (const auto& [gguf, key] : {std::pair("top_p", "top_p"), {"min_p", "min_p"}, {"temp", "temperature"}}) {
    if (const auto value = metadata.Float(std::string("general.sampling.") + gguf)) {
      json[key] = std::stod(fmt::format("{}", static_cast<float>(*value)));
      json["do_sample"] = true;
    }
  }
  return json;
}

}  // namespace

Result<ExportStats> WriteHfDirectory(const ModelFile& source, const HfExportOptions& options,
                                     const std::string& directory, ThreadPool& pool,
                                     const ProgressFn& progress, const std::string& stage) {
  CHECK(source.gguf.has_value());
  const Metadata& metadata = source.gguf->metadata;
  ASSIGN_OR_RETURN(ModelConfig config, ModelConfigFromGguf(*source.gguf));
  // GGUF has one name for both, but Transformers' Llama knows no window.
  if (config.sliding_window > 0 && config.arch == FindArchByHf("llama"))
    config.arch = FindArchByHf("mistral");
  ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromGguf(metadata, source.path));
  DropPadding(spec);
  const WeightType type = options.type.value_or(DefaultType(source.tensors()));
  if (Info(type).quantized) {
    return MakeError(ErrorCode::kInvalidArgument, "a Hugging Face folder holds F32, F16 or BF16, not {}",
                     Name(type));
  }
  ASSIGN_OR_RETURN(const std::vector<ExportTensor> tensors, HfTensors(config, source, type));
  ASSIGN_OR_RETURN(const Json config_json, ConfigJson(config, source, spec, type));
  const HfTokenizerFiles tokenizer = TokenizerSpecToHf(spec);

  ASSIGN_OR_RETURN(const NewFolder folder, NewFolder::Create(directory));
  const std::vector<Shard> shards = SplitIntoShards(tensors, options.max_shard_bytes);
  TensorStreamer streamer(pool, progress, stage, source.path, SourceBytes(tensors));
  ASSIGN_OR_RETURN(ExportStats stats, WriteWeights(tensors, shards, directory, streamer));
  const auto write = [&](const char* name, const Json& json) {
    return WriteFileAtomically(directory + "/" + name, DumpJson(json, 2) + "\n");
  };
  if (shards.size() > 1) RETURN_IF_ERROR(write("model.safetensors.index.json", ShardIndex(tensors, shards)));
  RETURN_IF_ERROR(write("tokenizer.json", tokenizer.tokenizer));
  RETURN_IF_ERROR(write("tokenizer_config.json", tokenizer.tokenizer_config));
  RETURN_IF_ERROR(write("generation_config.json", GenerationJson(metadata, spec)));
  RETURN_IF_ERROR(write("config.json", config_json));  // last: without it the folder is no model
  return stats;
}

}  // namespace thimble

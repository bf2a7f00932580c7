#include "eval/random_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "base/check.h"
#include "base/random.h"
#include "codec/codec.h"
#include "formats/gguf.h"
#include "model/config.h"
#include "quant/mixes.h"
#include "text/byte_alphabet.h"

namespace thimble {
namespace {

constexpr float kDeviation = 0.02f;
constexpr size_t kPoolBlocks = 4096;
constexpr int64_t kWriteBytes = 1 << 20;

constexpr RandomModelShape kShapes[] = {
    {"tiny", "nothing", "llama", 2, 64, 4, 2, 16, 160, 320, 10000, 1e-5f},
    {"0.5B", "Qwen2.5-0.5B", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, 1000000, 1e-6f},
    {"1B", "Llama-3.2-1B", "llama", 16, 2048, 32, 8, 64, 8192, 128256, 500000, 1e-5f},
    {"3B", "Llama-3.2-3B", "llama", 28, 3072, 24, 8, 128, 8192, 128256, 500000, 1e-5f},
};

ModelConfig MakeConfig(const RandomModelShape& shape) {
  ModelConfig c;
  c.arch = FindArchByGguf(shape.arch);
  CHECK(c.arch != nullptr);
  c.n_layers = shape.n_layers;
  c.d_model = shape.d_model;
  c.n_heads = shape.n_heads;
  c.n_kv_heads = shape.n_kv_heads;
  c.head_dim = shape.head_dim;
  c.d_ff = shape.d_ff;
  c.vocab_size = shape.vocab_size;
  c.context_length = 8192;
  c.rms_eps = shape.rms_eps;
  c.rope_theta = shape.rope_theta;
  c.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
  c.tied_embeddings = true;
  return c;
}

// Byte-level BPE with a single merge; the rest of the vocabulary only takes up room.
void AddVocabulary(int64_t size, Metadata& metadata) {
  constexpr int32_t kNormal = 1, kControl = 3;
  std::vector<std::string> tokens{"<|end|>"};
  std::vector<int32_t> types{kControl};
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    tokens.push_back(BytesToAlphabet(std::string_view(&c, 1)));
  }
  const std::string space = BytesToAlphabet(" ");
  tokens.push_back(space + "t");
  for (int64_t i = static_cast<int64_t>(tokens.size()); i < size; ++i)
    tokens.push_back(fmt::format("filler{}", i));
  types.resize(tokens.size(), kNormal);
  metadata.Set("tokenizer.ggml.model", {std::string("gpt2")});
  metadata.Set("tokenizer.ggml.pre", {std::string("gpt-2")});
  metadata.Set("tokenizer.ggml.tokens", {std::move(tokens)});
  metadata.Set("tokenizer.ggml.token_type", {std::move(types)});
  metadata.Set("tokenizer.ggml.merges", {std::vector<std::string>{space + " t"}});
  metadata.Set("tokenizer.ggml.eos_token_id", {uint32_t{0}});
  metadata.Set("tokenizer.ggml.add_bos_token", {false});
}

// The shape of an architecture's tensor; vectors have one dimension. Empty: not in these models.
std::vector<int64_t> ShapeOf(const ModelConfig& c, Slot slot) {
  const int64_t q = c.n_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
  switch (slot) {
    case Slot::kQ:
      return {q, c.d_model};
    case Slot::kK:
    case Slot::kV:
      return {kv, c.d_model};
    case Slot::kO:
      return {c.d_model, q};
    case Slot::kGate:
    case Slot::kUp:
      return {c.d_ff, c.d_model};
    case Slot::kDown:
      return {c.d_model, c.d_ff};
    case Slot::kEmbedding:
      return {c.vocab_size, c.d_model};
    case Slot::kAttnNorm:
    case Slot::kFfnNorm:
    case Slot::kOutputNorm:
      return {c.d_model};
    case Slot::kQBias:
      return std::string_view(c.arch->gguf_arch) == "qwen2" ? std::vector{q} : std::vector<int64_t>{};
    case Slot::kKBias:
    case Slot::kVBias:
      return std::string_view(c.arch->gguf_arch) == "qwen2" ? std::vector{kv} : std::vector<int64_t>{};
    default:
      return {};
  }
}

std::vector<MixTensor> ListTensors(const ModelConfig& config) {
  std::vector<MixTensor> tensors;
  for (const TensorRow& row : config.arch->tensors) {
    const std::vector<int64_t> shape = ShapeOf(config, row.slot);
    if (shape.empty()) continue;
    const bool per_layer = std::string_view(row.gguf).find("{}") != std::string_view::npos;
    for (int64_t layer = 0; layer < (per_layer ? config.n_layers : 1); ++layer) {
      tensors.push_back({LayerName(row.gguf, layer), shape, WeightType::kF32});
    }
  }
  return tensors;
}

// Random blocks of one type, each of at least 32 weights.
class BlockPool {
 public:
  BlockPool(WeightType type, Random& random) : type_(type) {
    const int64_t n = std::max<int64_t>(32, Info(type).block_size);
    bytes_ = RowBytes(type, n);
    pool_.resize(bytes_ * kPoolBlocks);
    std::vector<float> weights(static_cast<size_t>(n));
    for (size_t i = 0; i < kPoolBlocks; ++i) {
      for (float& w : weights) w = kDeviation * static_cast<float>(random.Normal());
      EncodeRow(type, weights.data(), pool_.data() + i * bytes_, n);
    }
  }

  Status Write(int64_t rows, int64_t row_size, Random& random, GgufWriter& writer) const {
    const size_t row_bytes = RowBytes(type_, row_size);
    const int64_t slab = std::max<int64_t>(1, kWriteBytes / static_cast<int64_t>(row_bytes));
    std::vector<uint8_t> buffer(row_bytes * static_cast<size_t>(std::min(slab, rows)));
    for (int64_t done = 0; done < rows; done += slab) {
      uint8_t* to = buffer.data();
      for (int64_t i = 0; i < std::min(slab, rows - done); ++i) {
        for (const uint8_t* end = to + row_bytes; to < end;) {  // the last block may be half a one
          const size_t n = std::min(bytes_, static_cast<size_t>(end - to));
          std::memcpy(to, pool_.data() + random.Below(kPoolBlocks) * bytes_, n);
          to += n;
        }
      }
      RETURN_IF_ERROR(writer.Write(std::span(buffer.data(), to)));
    }
    return {};
  }

 private:
  WeightType type_;
  size_t bytes_;
  std::vector<uint8_t> pool_;
};

}  // namespace

std::span<const RandomModelShape> RandomModelShapes() {
  return kShapes;
}

Result<const RandomModelShape*> FindRandomModelShape(std::string_view name) {
  std::string names;
  for (const RandomModelShape& shape : kShapes) {
    if (shape.name == name) return &shape;
    names += (names.empty() ? "" : ", ") + std::string(shape.name);
  }
  return MakeError(ErrorCode::kInvalidArgument, "{}: not a shape; there are {}", name, names);
}

Status WriteRandomModel(const RandomModelShape& shape, const std::string& type, const std::string& path,
                        uint64_t seed) {
  const ModelConfig config = MakeConfig(shape);
  const std::vector<MixTensor> tensors = ListTensors(config);
  ASSIGN_OR_RETURN(const MixRow* mix, FindMix(type));
  ASSIGN_OR_RETURN(const std::vector<MixChoice> choices, ChooseTypes({.type = type},
                                                                     {.arch = shape.arch,
                                                                      .n_layers = shape.n_layers,
                                                                      .n_heads = shape.n_heads,
                                                                      .n_kv_heads = shape.n_kv_heads},
                                                                     tensors));
  Metadata metadata;
  ModelConfigToGguf(config, metadata);
  metadata.Set("general.name", {fmt::format("Random weights, {}, shaped like {}", shape.name, shape.like)});
  metadata.Set("general.file_type", {mix->file_type});
  metadata.Set("general.quantization_version", {uint32_t{2}});
  AddVocabulary(shape.vocab_size, metadata);

  std::vector<TensorDeclaration> declarations;
  for (size_t i = 0; i < tensors.size(); ++i) {
    declarations.push_back({tensors[i].name, choices[i].type, tensors[i].shape});
  }
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, metadata, declarations));
  Random random(seed);
  std::map<WeightType, BlockPool> pools;
  for (const TensorDeclaration& tensor : declarations) {
    if (tensor.shape.size() == 1) {  // norms; biases of 1 do no harm
      const std::vector<float> ones(static_cast<size_t>(tensor.shape[0]), 1.0f);
      CHECK(tensor.type == WeightType::kF32);
      RETURN_IF_ERROR(
          writer.Write({reinterpret_cast<const uint8_t*>(ones.data()), ones.size() * sizeof(float)}));
      continue;
    }
    auto pool = pools.find(tensor.type);
    if (pool == pools.end()) pool = pools.try_emplace(tensor.type, tensor.type, random).first;
    RETURN_IF_ERROR(pool->second.Write(tensor.shape[0], tensor.shape[1], random, writer));
  }
  return writer.Finish();
}

}  // namespace thimble

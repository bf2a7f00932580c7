#include "model/adapter.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "codec/codec.h"
#include "formats/gguf_lora.h"
#include "model/adapter_parts.h"

namespace thimble {
namespace {

// Of B transposed, in GGUF: rows of the rank's few numbers are too short for blocks of 32.
constexpr const char* kTransposedB = ".lora_b_t";

Tensor Transposed(const Tensor& t) {
  Tensor out = Tensor::Empty(t.cols(), t.rows());
  for (int64_t i = 0; i < t.rows(); ++i) {
    for (int64_t j = 0; j < t.cols(); ++j) out.row(j)[i] = t.row(i)[j];
  }
  return out;
}

}  // namespace

RowOrder OutputOrder(const ModelConfig& c, Slot slot, bool from_gguf, bool to_gguf) {
  const TensorRow* row = FindRow(*c.arch, slot);
  if (row->transform != GgufTransform::kPermuteHeads || from_gguf == to_gguf)
    return [](int64_t i) { return i; };
  const int64_t head_dim = c.head_dim;
  if (to_gguf) return [head_dim](int64_t i) { return PermutedRow(i, head_dim); };
  // The inverse: row (j, i) of a head went to row (i, j).
  return [head_dim](int64_t row) {
    const int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
    return head * head_dim + within % half * 2 + within / half;
  };
}

Result<Tensor> DecodeTensor(const std::string& path, const TensorInfo& info, int64_t rows, int64_t cols) {
  if (info.shape != std::vector<int64_t>{rows, cols}) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: tensor '{}' has shape [{}], the model needs [{}, {}]",
                     path, info.name, fmt::join(info.shape, ", "), rows, cols);
  }
  if (!Info(info.type).decodable) {
    return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}", path, info.name,
                     Name(info.type));
  }
  Tensor t = Tensor::Empty(rows, cols);
  const size_t row_bytes = RowBytes(info.type, cols);
  for (int64_t i = 0; i < rows; ++i) DecodeRow(info.type, info.bytes.data() + i * row_bytes, t.row(i), cols);
  for (int64_t i = 0; i < t.size(); ++i) {
    if (!std::isfinite(t.data()[i])) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' holds a value that is not finite", path,
                       info.name);
    }
  }
  return t;
}

Tensor ReorderRows(const Tensor& t, const RowOrder& order) {
  Tensor out = Tensor::Empty(t.rows(), t.cols());
  for (int64_t i = 0; i < t.rows(); ++i) {
    std::memcpy(out.row(i), t.row(order(i)), static_cast<size_t>(t.cols()) * sizeof(float));
  }
  return out;
}

std::unordered_map<std::string, AdapterTarget> AdapterTargets(const ModelConfig& c, bool gguf_names) {
  std::unordered_map<std::string, AdapterTarget> targets;
  for (int64_t layer = 0; layer < c.n_layers; ++layer) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      const Slot slot = static_cast<Slot>(s);
      const std::string name =
          gguf_names ? LayerName(FindRow(*c.arch, slot)->gguf, layer) : HfModuleName(*c.arch, slot, layer);
      targets[name] = {layer, slot};
    }
  }
  return targets;
}

Status PlaceLora(const std::string& path, const TensorInfo& info, bool is_a, const AdapterTarget& target,
                 const Model& model, bool file_is_gguf, Adapter& adapter) {
  AdapterModule& module = adapter.layers[target.layer][static_cast<size_t>(target.slot)];
  const Weight& w = model.layers()[target.layer].weight(target.slot);
  const bool is_transposed = info.name.ends_with(kTransposedB);
  const int64_t rank = info.shape.size() == 2 ? info.shape[is_a || is_transposed ? 0 : 1] : 0;
  if (rank < 1 || rank > w.n_in) {
    return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has no sensible rank", path, info.name);
  }
  if (is_a) {
    ASSIGN_OR_RETURN(module.a, DecodeTensor(path, info, rank, w.n_in));
  } else {
    ASSIGN_OR_RETURN(Tensor b, is_transposed ? DecodeTensor(path, info, rank, w.n_out)
                                             : DecodeTensor(path, info, w.n_out, rank));
    module.b =
        ReorderRows(is_transposed ? Transposed(b) : b,
                    OutputOrder(model.config(), target.slot, file_is_gguf, model.file().gguf.has_value()));
  }
  return {};
}

Status CheckComplete(const std::string& path, const Model& model, const Adapter& adapter) {
  bool any = false;
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      const AdapterModule& m = adapter.layers[i][s];
      if (m.empty() && !m.b && !m.down_bias && !m.up && !m.up_bias) continue;
      any = true;
      const bool has_down = m.down && m.down_bias, has_up = m.up && m.up_bias;
      if ((m.down || m.down_bias || m.up || m.up_bias) &&
          (!has_down || !has_up || m.down.rows() != m.up.cols() || m.down_bias.size() != m.up.cols() ||
           m.up_bias.rows() != 1)) {
        return MakeError(ErrorCode::kCorrupt, "{}: {} lacks a part of its bottleneck, or their sizes differ",
                         path,
                         HfModuleName(*model.config().arch, static_cast<Slot>(s), static_cast<int64_t>(i)));
      }
      if (static_cast<bool>(m.a) != static_cast<bool>(m.b) || (m.a && m.a.rows() != m.b.cols())) {
        return MakeError(ErrorCode::kCorrupt, "{}: {} lacks one of lora_A and lora_B, or their ranks differ",
                         path,
                         HfModuleName(*model.config().arch, static_cast<Slot>(s), static_cast<int64_t>(i)));
      }
    }
  }
  if (!any) return MakeError(ErrorCode::kCorrupt, "{}: the adapter has no tensors", path);
  return {};
}

namespace {

Status CheckLora(const Adapter& adapter) {
  if (adapter.is_lora()) return {};
  return MakeError(ErrorCode::kUnsupported, "{}: only LoRA and rsLoRA adapters can be written", adapter.name);
}

Result<Adapter> LoadGguf(const std::string& path, const Model& model) {
  ASSIGN_OR_RETURN(const GgufLora lora, ReadGgufLora(path));
  if (lora.arch != model.config().arch->gguf_arch) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: the adapter is for architecture '{}', the model is '{}'", path, lora.arch,
                     model.config().arch->gguf_arch);
  }
  Adapter adapter{.name = path, .notes = lora.notes};
  adapter.layers.resize(model.layers().size());
  const auto targets = AdapterTargets(model.config(), true);
  for (const TensorInfo& info : lora.file.tensors) {
    const bool is_a = info.name.ends_with(".lora_a");
    const bool is_known = is_a || info.name.ends_with(".lora_b") || info.name.ends_with(".lora_b_t");
    const auto target = targets.find(info.name.substr(0, info.name.rfind('.')));
    if (!is_known || target == targets.end()) {
      return MakeError(ErrorCode::kUnsupported,
                       "{}: tensor '{}' is not the LoRA of a linear layer of this model", path, info.name);
    }
    RETURN_IF_ERROR(PlaceLora(path, info, is_a, target->second, model, true, adapter));
  }
  RETURN_IF_ERROR(CheckComplete(path, model, adapter));
  for (auto& layer : adapter.layers) {
    for (AdapterModule& m : layer) {
      if (m.a && lora.alpha != 0) m.scale = lora.alpha / static_cast<float>(m.a.rows());
    }
  }
  return adapter;
}

// Memory for tensors that are written under a table of views.
class OwnedTable {
 public:
  // In `type` where that has blocks which fit the rows, else in F16.
  void Add(const std::string& name, const Tensor& t, WeightType type = WeightType::kF32) {
    if (!RowFits(type, t.cols())) type = WeightType::kF16;
    auto& bytes = kept_.emplace_back(RowBytes(type, t.cols()) * static_cast<size_t>(t.rows()));
    if (type == WeightType::kF32) std::memcpy(bytes.data(), t.data(), bytes.size());
    for (int64_t i = 0; i < t.rows() && type != WeightType::kF32; ++i) {
      EncodeRow(type, t.row(i), bytes.data() + static_cast<size_t>(i) * RowBytes(type, t.cols()), t.cols());
    }
    table_.Add({name, type, {t.rows(), t.cols()}, bytes});
  }
  const TensorTable& table() const { return table_; }

 private:
  std::vector<std::vector<uint8_t>> kept_;
  TensorTable table_;
};

// B as a file of the given kind wants it, scaled.
Tensor ExportB(const Model& model, Slot slot, const AdapterModule& module, bool to_gguf, float scale) {
  Tensor b = ReorderRows(module.b, OutputOrder(model.config(), slot, model.file().gguf.has_value(), to_gguf));
  for (int64_t i = 0; i < b.size(); ++i) b.data()[i] *= scale;
  return b;
}

}  // namespace

void ShareVeraMatrices(const Model& model, const Tensor& a, const Tensor& b, Adapter& adapter) {
  std::map<int64_t, Tensor> inputs;                    // by n_in
  std::map<std::pair<int64_t, bool>, Tensor> outputs;  // by n_out, and whether the rows are reordered
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      const Slot slot = static_cast<Slot>(s);
      AdapterModule& m = adapter.layers[layer][static_cast<size_t>(s)];
      if (!m.rank_scale) continue;
      const Weight& w = model.layers()[layer].weight(slot);
      Tensor& in = inputs[w.n_in];
      if (!in) {
        in = Tensor::Empty(a.rows(), w.n_in);
        for (int64_t i = 0; i < a.rows(); ++i) std::copy_n(a.row(i), w.n_in, in.row(i));
      }
      const bool reordered = FindRow(*model.config().arch, slot)->transform == GgufTransform::kPermuteHeads;
      Tensor& out = outputs[{w.n_out, reordered}];
      if (!out) {
        const RowOrder order = PeftRowOrder(model, slot);
        out = Tensor::Empty(w.n_out, b.cols());
        for (int64_t i = 0; i < w.n_out; ++i) std::copy_n(b.row(i), b.cols(), out.row(order(i)));
      }
      m.a = in;
      m.b = out;
    }
  }
}

float HfNormOffset(const ArchRow& arch, Slot norm) {
  return FindRow(arch, norm)->transform == GgufTransform::kPlusOne ? 1.0f : 0.0f;
}

RowOrder PeftRowOrder(const Model& model, Slot slot) {
  return OutputOrder(model.config(), slot, model.file().gguf.has_value(), false);
}

RowOrder PeftPrefixOrder(const Model& model) {
  const int64_t width = model.config().n_kv_heads * model.config().head_dim;
  return [width, order = PeftRowOrder(model, Slot::kK)](int64_t i) {
    return i / width % 2 == 0 ? i / width * width + order(i % width) : i;
  };
}

int64_t PermutedRow(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, within = row % head_dim;
  return head * head_dim + within % 2 * (head_dim / 2) + within / 2;
}

std::string HfModuleName(const ArchRow& arch, Slot slot, int64_t layer) {
  std::string name = LayerName(FindRow(arch, slot)->hf, layer);
  return name.substr(0, name.rfind(".weight"));
}

std::string PeftModuleName(const ArchRow& arch, Slot slot, int64_t layer) {
  return kPeftPrefix + HfModuleName(arch, slot, layer);
}

std::string ShortModuleName(const ArchRow& arch, Slot slot) {
  const std::string name = HfModuleName(arch, slot, 0);
  return name.substr(name.rfind('.') + 1);
}

Result<Adapter> LoadAdapter(const std::string& path, const Model& model) {
  std::error_code ec;
  return std::filesystem::is_directory(path, ec) ? LoadPeftAdapter(path, model) : LoadGguf(path, model);
}

Status CheckScale(const Adapter& adapter, float scale) {
  if (adapter.n_virtual() == 0 || scale == 0 || scale == 1) return {};
  return MakeError(
      ErrorCode::kInvalidArgument,
      "{}: puts {} tokens before the text, which are there (1) or not (0): {} is no scale for it",
      adapter.name, adapter.n_virtual(), scale);
}

Status SavePeftAdapter(const Adapter& adapter, const Model& model, const PeftLoraConfig& config,
                       const std::string& directory) {
  RETURN_IF_ERROR(CheckLora(adapter));
  OwnedTable table;
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      const AdapterModule& m = adapter.layers[i][s];
      if (!m.a) continue;
      const Slot slot = static_cast<Slot>(s);
      const std::string module = PeftModuleName(*model.config().arch, slot, static_cast<int64_t>(i));
      table.Add(module + ".lora_A.weight", m.a);
      table.Add(module + ".lora_B.weight", ExportB(model, slot, m, false, 1));
    }
  }
  return WritePeftAdapter(directory, ToJson(config), table.table(), adapter.notes);
}

Status SaveGgufAdapter(const Adapter& adapter, const Model& model, const std::string& path, WeightType type) {
  RETURN_IF_ERROR(CheckLora(adapter));
  OwnedTable table;
  const ArchRow& arch = *model.config().arch;
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      const AdapterModule& m = adapter.layers[i][s];
      if (!m.a) continue;
      const Slot slot = static_cast<Slot>(s);
      const std::string base = LayerName(FindRow(arch, slot)->gguf, static_cast<int64_t>(i));
      const Tensor b = ExportB(model, slot, m, true, m.scale);
      table.Add(base + ".lora_a", m.a, type);
      if (RowFits(type, b.cols())) {
        table.Add(base + ".lora_b", b, type);
      } else {
        table.Add(base + kTransposedB, Transposed(b), type);
      }
    }
  }
  return WriteGgufLora(path, arch.gguf_arch, 0, table.table(), adapter.notes);
}

}  // namespace thimble

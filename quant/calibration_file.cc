#include "quant/calibration_file.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/sha256.h"
#include "formats/gguf.h"
#include "formats/model_hash.h"

namespace thimble {
namespace {

constexpr const char* kType = "calibration";
// Part of the key: raised when the same inputs would give other statistics.
constexpr int kVersion = 3;

// A layer's statistics in one row: the lower triangle of H, row_weights, mean_squares.
int64_t RowSize(int64_t n_in, int64_t n_out) {
  return n_in * (n_in + 1) / 2 + n_out + n_in;
}

std::vector<float> Flatten(const LayerStatistics& s) {
  std::vector<float> row;
  const int64_t n = s.hessian.n;
  row.reserve(static_cast<size_t>(RowSize(n, static_cast<int64_t>(s.row_weights.size()))));
  for (int64_t i = 0; i < n; ++i) {
    row.insert(row.end(), s.hessian.h.begin() + i * n, s.hessian.h.begin() + i * n + i + 1);
  }
  row.insert(row.end(), s.row_weights.begin(), s.row_weights.end());
  row.insert(row.end(), s.mean_squares.begin(), s.mean_squares.end());
  return row;
}

LayerStatistics Unflatten(const float* row, int64_t n_in, int64_t n_out) {
  LayerStatistics s;
  s.hessian = Hessian(n_in);
  for (int64_t i = 0; i < n_in; ++i) {
    std::memcpy(s.hessian.h.data() + i * n_in, row, static_cast<size_t>(i + 1) * sizeof(float));
    row += i + 1;
  }
  s.row_weights.assign(row, row + n_out);
  s.mean_squares.assign(row + n_out, row + n_out + n_in);
  return s;
}

std::string TensorName(size_t layer, size_t slot) {
  return fmt::format("layer.{}.{}", layer, slot);
}

// Of the model (a folder's configuration is not in its weights' hash), of all texts, for others are made from
// those that are not calibrated on, and of the tokens that they gave.
std::string Key(const Model& model, const CalibrationOptions& options,
                const std::vector<std::vector<TokenId>>& windows) {
  Sha256 hash;
  hash.Update(fmt::format("{} {} {} {} {}", kVersion, HashModel(model.file()), options.n_ctx,
                          options.max_tokens, options.max_seconds));
  if (model.file().hf) hash.Update(DumpJson(model.file().hf->config));
  for (const TextPart& text : options.texts) {
    hash.Update(fmt::format("{} {} {} ", text.name, text.chat, text.documents.size()));
    for (const std::string& document : text.documents) {
      hash.Update(fmt::format("{} ", document.size()));
      hash.Update(document);
    }
  }
  for (const auto& window : windows) {
    hash.Update({reinterpret_cast<const uint8_t*>(window.data()), window.size() * sizeof(TokenId)});
  }
  return hash.Hex();
}

}  // namespace

Status SaveCalibration(const Calibration& calibration, const std::string& key, const std::string& path) {
  Metadata metadata;
  metadata.Set("general.type", {std::string(kType)});
  metadata.Set("calibration.key", {key});
  metadata.Set("calibration.tokens", {static_cast<uint64_t>(calibration.n_tokens)});
  std::vector<TensorDeclaration> tensors;
  std::vector<const LayerStatistics*> order;
  const auto declare = [&](const std::string& name, const LayerStatistics& s) {
    tensors.push_back(
        {name, WeightType::kF32, {RowSize(s.hessian.n, static_cast<int64_t>(s.row_weights.size()))}});
    order.push_back(&s);
  };
  for (size_t layer = 0; layer < calibration.layers.size(); ++layer) {
    for (size_t slot = 0; slot < kNumLinearSlots; ++slot) {
      declare(TensorName(layer, slot), calibration.layers[layer][slot]);
    }
  }
  declare("output", calibration.output);
  if (calibration.embedding.hessian.n > 0) declare("embedding", calibration.embedding);
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, metadata, tensors));
  for (const LayerStatistics* s : order) {
    const std::vector<float> row = Flatten(*s);
    RETURN_IF_ERROR(writer.Write({reinterpret_cast<const uint8_t*>(row.data()), row.size() * sizeof(float)}));
  }
  return writer.Finish();
}

Result<Calibration> LoadCalibration(const Model& model, const std::string& key, const std::string& path) {
  ASSIGN_OR_RETURN(const GgufFile file, ReadGguf(path));
  if (file.metadata.String("general.type") != kType || file.metadata.String("calibration.key") != key) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: a calibration of another model, text or version",
                     path);
  }
  Calibration calibration;
  calibration.n_tokens = file.metadata.Int("calibration.tokens").value_or(0);
  const auto read = [&](const std::string& name, const Weight& w) -> Result<LayerStatistics> {
    const TensorInfo* t = file.tensors.Find(name);
    if (t == nullptr || t->type != WeightType::kF32 || t->n_elements() != RowSize(w.n_in, w.n_out)) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: '{}' does not fit the model", path, name);
    }
    return Unflatten(reinterpret_cast<const float*>(t->bytes.data()), w.n_in, w.n_out);
  };
  for (size_t layer = 0; layer < model.layers().size(); ++layer) {
    auto& statistics = calibration.layers.emplace_back();
    for (size_t slot = 0; slot < kNumLinearSlots; ++slot) {
      ASSIGN_OR_RETURN(statistics[slot], read(TensorName(layer, slot), model.layers()[layer].linear[slot]));
    }
  }
  ASSIGN_OR_RETURN(calibration.output, read("output", model.output()));
  if (!model.config().tied_embeddings) {
    ASSIGN_OR_RETURN(calibration.embedding, read("embedding", model.embedding()));
  }
  return calibration;
}

std::string CalibrationOptions::DefaultCacheDir() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg != nullptr && *xdg != '\0') return std::string(xdg) + "/thimble";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : ".") + "/.cache/thimble";
}

Result<CachedCalibration> CalibrateOrLoad(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                          const ChatTemplate* chat_template,
                                          const CalibrationOptions& options, const ProgressFn& progress) {
  std::vector<std::vector<std::vector<TokenId>>> windows;
  for (const TextPart& text : options.texts) {
    ASSIGN_OR_RETURN(auto part,
                     Windows(Deal(text, TextPurpose::kCalibration), tokenizer, chat_template, options.n_ctx));
    windows.push_back(std::move(part));
  }
  const auto taken = TakeEvenly(windows, options.max_tokens);
  if (taken.empty()) return MakeError(ErrorCode::kInvalidArgument, "the calibration text is too short");
  CachedCalibration cached;
  cached.key = Key(model, options, taken);
  cached.folder = options.cache_dir + "/calibration/" + cached.key.substr(0, 16);
  std::error_code ec;
  std::filesystem::create_directories(cached.folder, ec);
  if (ec) return MakeError(ErrorCode::kIo, "{}: cannot be made: {}", cached.folder, ec.message());
  const std::string path = cached.folder + "/calibration.gguf";
  if (auto loaded = LoadCalibration(model, cached.key, path)) {
    cached.calibration = std::move(*loaded);
    cached.found = true;
    return cached;
  }
  Context exact = ctx;
  exact.compute = Compute::kF32;
  ASSIGN_OR_RETURN(cached.calibration, Calibrate(exact, model, taken, options.max_seconds, progress));
  RETURN_IF_ERROR(SaveCalibration(cached.calibration, cached.key, path));
  return cached;
}

}  // namespace thimble

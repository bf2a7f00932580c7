#include "quant/calibration_file.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/sha256.h"
#include "formats/model_hash.h"
#include "quant/tensor_names.h"

namespace thimble {
namespace {

constexpr const char* kType = "calibration";
constexpr const char *kOutput = "output",
                     *kEmbedding = "embedding";  // names of statistics, beside TensorName's
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
                          options.max_tokens, options.limits.max_seconds));
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

// The names that statistics have in the file, with the matrix they are of.
std::vector<std::pair<std::string, const Weight*>> Declared(const Model& model) {
  std::vector<std::pair<std::string, const Weight*>> all;
  for (size_t layer = 0; layer < model.layers().size(); ++layer) {
    for (size_t slot = 0; slot < kNumLinearSlots; ++slot) {
      all.emplace_back(TensorName(layer, slot), &model.layers()[layer].linear[slot]);
    }
  }
  all.emplace_back(kOutput, &model.output());
  if (!model.config().tied_embeddings) all.emplace_back(kEmbedding, &model.embedding());
  return all;
}

// Empty: a vector.
std::string StatisticsOf(const TensorPlace& place, const ModelConfig& config) {
  const Slot slot = place.row->slot;
  if (static_cast<int>(slot) < kNumLinearSlots) {
    return TensorName(static_cast<size_t>(place.layer), static_cast<size_t>(slot));
  }
  if (slot == Slot::kOutput) return kOutput;
  if (slot != Slot::kEmbedding) return "";
  return config.tied_embeddings ? kOutput : kEmbedding;
}

Result<GgufWriter> Begin(const Model& model, int64_t n_tokens, const std::string& key,
                         const std::string& path) {
  Metadata metadata;
  metadata.Set("general.type", {std::string(kType)});
  metadata.Set("calibration.key", {key});
  metadata.Set("calibration.tokens", {static_cast<uint64_t>(n_tokens)});
  std::vector<TensorDeclaration> tensors;
  for (const auto& [name, w] : Declared(model)) {
    tensors.push_back({name, WeightType::kF32, {RowSize(w->n_in, w->n_out)}});
  }
  return GgufWriter::Create(path, metadata, tensors);
}

Status Write(const Calibration& part, const CalibrationPass& pass, GgufWriter& writer) {
  std::vector<const LayerStatistics*> order;
  for (int64_t layer = pass.begin; layer < pass.end; ++layer) {
    for (const LayerStatistics& s : part.layers[static_cast<size_t>(layer)]) order.push_back(&s);
  }
  if (pass.output) order.push_back(&part.output);
  if (pass.output && part.embedding.hessian.n > 0) order.push_back(&part.embedding);
  for (const LayerStatistics* s : order) {
    const std::vector<float> row = Flatten(*s);
    RETURN_IF_ERROR(writer.Write({reinterpret_cast<const uint8_t*>(row.data()), row.size() * sizeof(float)}));
  }
  return {};
}

}  // namespace

Status CalibrateToFile(const Context& ctx, const Model& model, std::span<const std::vector<TokenId>> windows,
                       const CalibrationLimits& limits, const std::string& key, const std::string& path,
                       const ProgressFn& progress) {
  uint64_t max_bytes = limits.max_bytes;
  for (const std::string& theirs :
       ctx.ranks.Gather(fmt::format("{}", max_bytes))) {  // all need the same passes
    max_bytes = std::min<uint64_t>(max_bytes, std::strtoull(theirs.c_str(), nullptr, 10));
  }
  ASSIGN_OR_RETURN(const std::vector<CalibrationPass> passes, PlanPasses(model, max_bytes));
  const double n_passes = static_cast<double>(passes.size());
  std::optional<GgufWriter> writer;
  for (size_t i = 0; i < passes.size(); ++i) {
    const auto report = [&](Progress p) {
      p.done += static_cast<double>(i) * p.total;
      p.total *= n_passes;
      return !progress || progress(p);
    };
    // What the first has time for, the others go through as well.
    const double seconds = i == 0 ? limits.max_seconds / n_passes : 0;
    ASSIGN_OR_RETURN(const Calibration part, Calibrate(ctx, model, windows, seconds, report, passes[i]));
    if (!ctx.ranks.first()) continue;
    if (i == 0) {
      size_t used = 0;
      for (int64_t tokens = 0; tokens < part.n_tokens; ++used) tokens += std::ssize(windows[used]);
      windows = windows.first(used);
      ASSIGN_OR_RETURN(GgufWriter begun, Begin(model, part.n_tokens, key, path));
      writer.emplace(std::move(begun));
    }
    RETURN_IF_ERROR(Write(part, passes[i], *writer));
  }
  return writer ? writer->Finish() : Status();
}

Result<CalibrationFile> CalibrationFile::Open(const Model& model, const std::string& key,
                                              const std::string& path) {
  CalibrationFile file;
  file.path_ = path;
  ASSIGN_OR_RETURN(file.file_, ReadGguf(path));
  const GgufFile& gguf = file.file_;
  if (gguf.metadata.String("general.type") != kType || gguf.metadata.String("calibration.key") != key) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: a calibration of another model, text or version",
                     path);
  }
  file.n_tokens_ = gguf.metadata.Int("calibration.tokens").value_or(0);
  std::unordered_map<std::string, Entry> declared;
  for (const auto& [name, w] : Declared(model)) {
    const TensorInfo* t = gguf.tensors.Find(name);
    if (t == nullptr || t->type != WeightType::kF32 || t->n_elements() != RowSize(w->n_in, w->n_out)) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: '{}' does not fit the model", path, name);
    }
    declared[name] = {t->bytes, w->n_in, w->n_out};
  }
  for (const auto& [name, place] : PlacesByName(model.config(), Naming::kGguf)) {
    const auto found = declared.find(StatisticsOf(place, model.config()));
    if (found != declared.end()) file.entries_[name] = found->second;
  }
  return file;
}

// Not through the mapping: a process's memory should not grow by what it has read.
Result<std::vector<float>> CalibrationFile::ReadFloats(std::span<const uint8_t> bytes) const {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!file_.file->Copy(bytes, reinterpret_cast<uint8_t*>(values.data()))) {
    return MakeError(ErrorCode::kIo, "{}: cannot be read any more", path_);
  }
  return values;
}

Result<LayerStatistics> CalibrationFile::Read(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  ASSIGN_OR_RETURN(const std::vector<float> row, ReadFloats(entry.bytes));
  return Unflatten(row.data(), entry.n_in, entry.n_out);
}

Result<std::vector<float>> CalibrationFile::ReadMeanSquares(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  return ReadFloats(entry.bytes.last(static_cast<size_t>(entry.n_in) * sizeof(float)));
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
  CachedCalibration cached{.calibration = {}, .key = Key(model, options, taken), .folder = {}};
  cached.folder = options.cache_dir + "/calibration/" + cached.key.substr(0, 16);
  const std::string path = cached.folder + "/calibration.gguf";
  double n_found = 0;
  if (ctx.ranks.first()) {
    std::error_code ec;
    std::filesystem::create_directories(cached.folder, ec);
    if (ec) return MakeError(ErrorCode::kIo, "{}: cannot be made: {}", cached.folder, ec.message());
    if (auto kept = CalibrationFile::Open(model, cached.key, path)) {
      cached.calibration = std::move(*kept);
      n_found = 1;
    }
  }
  ctx.ranks.Sum({&n_found, 1});
  cached.found = n_found > 0;
  if (cached.found) return cached;
  Context exact = ctx;
  exact.compute = Compute::kF32;
  RETURN_IF_ERROR(CalibrateToFile(exact, model, taken, options.limits, cached.key, path, progress));
  if (ctx.ranks.first()) {
    ASSIGN_OR_RETURN(cached.calibration, CalibrationFile::Open(model, cached.key, path));
  }
  return cached;
}

}  // namespace thimble

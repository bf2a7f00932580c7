#include "quant/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/gguf.h"
#include "quant/tensor_names.h"

namespace thimble {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

std::span<const uint8_t> Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> Floats(const TensorInfo& t) {
  std::vector<float> values(static_cast<size_t>(t.n_elements()));
  std::memcpy(values.data(), t.bytes.data(), values.size() * sizeof(float));
  return values;
}

}  // namespace

Result<Imatrix> ImatrixOf(const CalibrationFile& calibration, const ModelConfig& config) {
  Imatrix imatrix;
  for (const auto& [name, place] : PlacesByName(config, Naming::kGguf)) {
    const bool read = place.row->slot == Slot::kEmbedding && !config.tied_embeddings;  // no product's input
    if (!calibration.Has(name) || read) continue;
    ASSIGN_OR_RETURN(imatrix.mean_squares[name], calibration.ReadMeanSquares(name));
  }
  return imatrix;
}

Status CheckImatrix(const Imatrix& imatrix, const ExportPlan& plan, const std::string& path) {
  int64_t matching = 0;
  for (const ExportTensor& t : plan.tensors) {
    const auto found = imatrix.mean_squares.find(t.name);
    if (found == imatrix.mean_squares.end()) continue;
    if (static_cast<int64_t>(found->second.size()) != t.source.row_size()) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: '{}' has {} columns, in the model it has {}", path,
                       t.name, found->second.size(), t.source.row_size());
    }
    ++matching;
  }
  if (matching == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: names no tensor of the model", path);
  }
  return {};
}

RoundingFor RoundingBy(const Imatrix& imatrix) {
  return [&imatrix](const ExportTensor& t) -> Result<TensorRounding> {
    const auto found = imatrix.mean_squares.find(t.name);
    if (found == imatrix.mean_squares.end()) return TensorRounding();
    return TensorRounding{.importance = found->second};
  };
}

Status WriteImatrix(const Imatrix& imatrix, const std::string& path) {
  std::vector<std::string> names;
  for (const auto& [name, values] : imatrix.mean_squares) names.push_back(name);
  std::sort(names.begin(), names.end());
  Metadata metadata;
  metadata.Set("general.type", {std::string("imatrix")});
  StringList datasets;
  for (const std::string& dataset : imatrix.datasets) datasets.Add(dataset);
  metadata.Set("imatrix.datasets", {datasets});
  metadata.Set("imatrix.chunk_count", {static_cast<uint32_t>(imatrix.n_chunks)});
  metadata.Set("imatrix.chunk_size", {static_cast<uint32_t>(imatrix.chunk_size)});
  std::vector<TensorDeclaration> tensors;
  for (const std::string& name : names) {
    const int64_t columns = static_cast<int64_t>(imatrix.mean_squares.at(name).size());
    tensors.push_back({name + std::string(kSums), WeightType::kF32, {1, columns}});
    tensors.push_back({name + std::string(kCounts), WeightType::kF32, {1, 1}});
  }
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, metadata, tensors));
  const float count = static_cast<float>(std::max<int64_t>(1, imatrix.n_chunks * imatrix.chunk_size));
  for (const std::string& name : names) {
    std::vector<float> sums = imatrix.mean_squares.at(name);
    for (float& x : sums) x *= count;
    RETURN_IF_ERROR(writer.Write(Bytes(sums)));
    RETURN_IF_ERROR(writer.Write(Bytes({count})));
  }
  return writer.Finish();
}

Result<Imatrix> ReadImatrix(const std::string& path) {
  ASSIGN_OR_RETURN(const GgufFile file, ReadGguf(path));
  if (file.metadata.String("general.type") != "imatrix") {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: not an importance matrix (general.type is not imatrix)", path);
  }
  Imatrix imatrix;
  imatrix.n_chunks = file.metadata.Int("imatrix.chunk_count").value_or(0);
  imatrix.chunk_size = file.metadata.Int("imatrix.chunk_size").value_or(0);
  if (const StringList* datasets = file.metadata.Strings("imatrix.datasets")) {
    for (size_t i = 0; i < datasets->size(); ++i) imatrix.datasets.emplace_back((*datasets)[i]);
  }
  for (const TensorInfo& t : file.tensors) {
    if (!t.name.ends_with(kSums)) continue;
    const std::string name = t.name.substr(0, t.name.size() - kSums.size());
    const TensorInfo* counts = file.tensors.Find(name + std::string(kCounts));
    if (counts == nullptr || t.type != WeightType::kF32 || counts->type != WeightType::kF32 ||
        t.n_rows() != 1 || counts->n_elements() != 1) {
      return MakeError(
          ErrorCode::kUnsupported,
          "{}: '{}' is not one row of F32 sums with one count (mixtures of experts are not supported)", path,
          t.name);
    }
    std::vector<float> values = Floats(t);
    const float count = Floats(*counts)[0];
    if (!std::isfinite(count) ||
        !std::ranges::all_of(values, [](float x) { return std::isfinite(x) && x >= 0; })) {
      return MakeError(ErrorCode::kCorrupt, "{}: '{}' holds a sum of squares that is negative or not finite",
                       path, t.name);
    }
    for (float& x : values) x = count > 0 ? x / count : 1.0f;
    imatrix.mean_squares[name] = std::move(values);
  }
  return imatrix;
}

}  // namespace thimble

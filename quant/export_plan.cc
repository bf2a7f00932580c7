#include "quant/export_plan.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "formats/gguf.h"

namespace thimble {

Result<ExportPlan> PlanFromGguf(ModelFile source) {
  CHECK(source.gguf.has_value());
  const Metadata& metadata = source.gguf->metadata;
  if (metadata.String("general.type") == "adapter") {
    return MakeError(ErrorCode::kInvalidArgument, "{}: this is an adapter, not a model; see thimble convert",
                     source.path);
  }
  if (metadata.Int("split.count").value_or(1) > 1) {
    return MakeError(ErrorCode::kUnsupported, "{}: one part of a split model; join the parts first ({})",
                     source.path, "llama-gguf-split --merge");
  }
  ExportPlan plan;
  for (const auto& [key, value] : metadata.entries()) {
    if (!key.starts_with("split.")) plan.metadata.Set(key, value);
  }
  for (const TensorInfo& tensor : source.gguf->tensors) {
    plan.tensors.push_back(
        {.name = tensor.name, .type = tensor.type, .wanted = tensor.type, .source = tensor});
  }
  plan.source = std::move(source);
  return plan;
}

Result<ExportPlan> PlanFromModelFile(ModelFile source) {
  return source.gguf ? PlanFromGguf(std::move(source)) : PlanFromHf(std::move(source));
}

Status ApplyMix(const MixOptions& options, ExportPlan& plan) {
  ASSIGN_OR_RETURN(const MixRow* mix, FindMix(options.type));
  auto shape = MixShapeFromMetadata(plan.metadata);
  if (!shape) return MakeError(shape.error().code, "{}: {}", plan.source.path, shape.error().message);
  std::vector<MixTensor> tensors;
  for (const ExportTensor& t : plan.tensors) tensors.push_back({t.name, t.shape(), t.type});
  ASSIGN_OR_RETURN(const std::vector<MixChoice> choices, ChooseTypes(options, *shape, tensors));
  for (size_t i = 0; i < choices.size(); ++i) {
    ExportTensor& t = plan.tensors[i];
    t.type = choices[i].type;
    t.wanted = choices[i].wanted;
    if (t.type != t.source.type && !Info(t.source.type).decodable) {
      return MakeError(ErrorCode::kUnsupported, "{}: tensor '{}' has type {}, which cannot become {}",
                       plan.source.path, t.name, Name(t.source.type), Name(t.type));
    }
  }
  plan.metadata.Set("general.file_type", {mix->file_type});
  plan.metadata.Set("general.quantization_version", {kQuantizationVersion});
  return {};
}

void MakePortable(ExportPlan& plan) {
  for (ExportTensor& t : plan.tensors) {
    if (IsNative(t.type)) t.type = t.wanted = PortableType(t.type, t.source.row_size());
  }
  SetFileType(plan);
}

void SetFileType(ExportPlan& plan) {
  std::map<WeightType, int64_t> weights;
  for (const ExportTensor& t : plan.tensors) weights[t.type] += t.source.n_elements();
  const auto most = std::ranges::max_element(weights, {}, [](const auto& w) { return w.second; });
  plan.metadata.Set("general.file_type", {(*FindMix(Name(most->first)))->file_type});
  plan.metadata.Set("general.quantization_version", {kQuantizationVersion});
}

double ExportStats::bits_per_weight() const {
  return n_weights > 0 ? 8.0 * static_cast<double>(bytes_out) / static_cast<double>(n_weights) : 0;
}

int64_t ExportStats::n_fallback() const {
  return std::count_if(tensors.begin(), tensors.end(),
                       [](const TensorReport& t) { return t.to != t.wanted; });
}

int64_t ExportStats::n_requantized() const {
  return std::count_if(tensors.begin(), tensors.end(), [](const TensorReport& t) {
    return Info(t.from).quantized && Info(t.to).quantized && t.from != t.to;
  });
}

double ExportStats::fallback_share() const {
  int64_t n = 0;
  for (const TensorReport& t : tensors) n += t.to != t.wanted ? t.n_weights : 0;
  return n_weights > 0 ? static_cast<double>(n) / static_cast<double>(n_weights) : 0;
}

double ExportStats::fallback_bits() const {
  double bits = 0;
  for (const TensorReport& t : tensors) {
    const WeightTypeInfo& wanted = Info(t.wanted);
    const double weight_bits =
        8.0 * static_cast<double>(wanted.block_bytes) / static_cast<double>(wanted.block_size);
    if (t.to != t.wanted) {
      bits += 8.0 * static_cast<double>(t.bytes_out) - weight_bits * static_cast<double>(t.n_weights);
    }
  }
  return n_weights > 0 ? bits / static_cast<double>(n_weights) : 0;
}

double ExportStats::relative_error() const {
  double error = 0, sum = 0;
  for (const TensorReport& t : tensors) {
    error += t.squared_error;
    sum += t.squared_sum;
  }
  return sum > 0 ? std::sqrt(error / sum) : 0;
}

uint64_t FileBytes(const ModelFile& file) {
  if (file.gguf) return file.gguf->file->bytes().size();
  uint64_t bytes = 0;
  for (const auto& part : file.hf->weights.files) bytes += part->bytes().size();
  return bytes;
}

Status CheckOutputFile(const std::string& source, const std::string& path) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: the output is a folder; give a file's name", path);
  }
  if (std::filesystem::equivalent(source, path, ec)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: the output would replace the input; choose another name", path);
  }
  RETURN_IF_ERROR(AtomicFile::Create(path));
  return {};
}

void ExportStats::Add(TensorReport report) {
  bytes_in += report.bytes_in;
  bytes_out += report.bytes_out;
  n_weights += report.n_weights;
  tensors.push_back(std::move(report));
}

Result<ExportStats> WriteGgufFromPlan(const ExportPlan& plan, const std::string& path, ThreadPool& pool,
                                      const ProgressFn& progress, const std::string& stage,
                                      const RoundingFor& rounding) {
  RETURN_IF_ERROR(CheckOutputFile(plan.source.path, path));
  std::vector<TensorDeclaration> declarations;
  for (const ExportTensor& t : plan.tensors) declarations.push_back({t.name, t.type, t.shape()});
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, plan.metadata, declarations));
  TensorStreamer streamer(pool, progress, stage, plan.source.path, SourceBytes(plan.tensors));
  ExportStats stats;
  for (const ExportTensor& t : plan.tensors) {
    TensorRounding how;
    if (rounding && IsRounded(t)) {
      ASSIGN_OR_RETURN(how, rounding(t));
    }
    ASSIGN_OR_RETURN(TensorReport report, streamer.Write(t, how, [&](std::span<const uint8_t> bytes) {
      return writer.Write(bytes);
    }));
    stats.Add(std::move(report));
  }
  RETURN_IF_ERROR(writer.Finish());
  return stats;
}

}  // namespace thimble

#include "quant/rounded_tensors.h"

namespace thimble {
namespace {

constexpr const char* kKey = "rounded.key";

std::string PathOf(const std::string& folder, WeightType type) {
  return folder + "/" + Name(type) + ".gguf";
}

std::vector<TensorDeclaration> Declarations(WeightType type, std::span<const ExportTensor> tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const ExportTensor& t : tensors) {
    if (CanHold(t, type)) declarations.push_back({t.name, type, t.shape()});
  }
  return declarations;
}

}  // namespace

Result<RoundedTensors> RoundedTensors::Open(const std::string& folder, const std::string& key,
                                            std::span<const WeightType> types,
                                            std::span<const ExportTensor> tensors) {
  RoundedTensors rounded;
  for (const WeightType type : types) {
    if (Declarations(type, tensors).empty()) continue;
    const std::string path = PathOf(folder, type);
    ASSIGN_OR_RETURN(GgufFile file, ReadGguf(path));
    if (file.metadata.String(kKey) != key) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: rounded from something else", path);
    }
    rounded.files_.emplace(type, std::move(file));
  }
  return rounded;
}

const TensorInfo* RoundedTensors::Find(const std::string& tensor, WeightType type) const {
  const auto file = files_.find(type);
  return file == files_.end() ? nullptr : file->second.tensors.Find(tensor);
}

Result<RoundedTensorsWriter> RoundedTensorsWriter::Create(const std::string& folder, const std::string& key,
                                                          std::span<const WeightType> types,
                                                          std::span<const ExportTensor> tensors) {
  RoundedTensorsWriter writer;
  for (const WeightType type : types) {
    Metadata metadata;
    metadata.Set("general.type", {std::string("rounded")});
    metadata.Set(kKey, {key});
    const std::vector<TensorDeclaration> declarations = Declarations(type, tensors);
    if (declarations.empty()) continue;
    ASSIGN_OR_RETURN(GgufWriter file, GgufWriter::Create(PathOf(folder, type), metadata, declarations));
    writer.files_.emplace(type, std::move(file));
  }
  return writer;
}

uint64_t RoundedTensorsWriter::Bytes(std::span<const WeightType> types,
                                     std::span<const ExportTensor> tensors) {
  uint64_t bytes = 0;
  for (const ExportTensor& t : tensors) {
    for (const WeightType type : types) {
      if (CanHold(t, type)) bytes += BytesIn(t, type);
    }
  }
  return bytes;
}

Status RoundedTensorsWriter::Finish() {
  for (auto& [type, file] : files_) RETURN_IF_ERROR(file.Finish());
  return {};
}

}  // namespace thimble

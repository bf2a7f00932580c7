#include "formats/gguf_lora.h"

#include <cmath>

namespace thimble {

Result<GgufLora> ReadGgufLora(const std::string& path) {
  GgufLora lora;
  ASSIGN_OR_RETURN(lora.file, ReadGguf(path));
  const Metadata& metadata = lora.file.metadata;
  if (metadata.String("general.type") != "adapter" || metadata.String("adapter.type") != "lora") {
    return MakeError(
        ErrorCode::kInvalidArgument, "{}: not a LoRA adapter (general.type is '{}', adapter.type is '{}')",
        path, metadata.String("general.type").value_or(""), metadata.String("adapter.type").value_or(""));
  }
  const std::optional<std::string> arch = metadata.String("general.architecture");
  if (!arch) return MakeError(ErrorCode::kCorrupt, "{}: general.architecture is missing", path);
  lora.arch = *arch;
  const std::optional<double> alpha = metadata.Float("adapter.lora.alpha");
  if (!alpha || !std::isfinite(*alpha)) {
    return MakeError(ErrorCode::kCorrupt, "{}: adapter.lora.alpha is missing or not a number", path);
  }
  lora.alpha = static_cast<float>(*alpha);
  for (const auto& [key, value] : metadata.entries()) {
    const std::string* text = value.AsString();
    if (text != nullptr && key.starts_with(kNotePrefix)) lora.notes[key] = *text;
  }
  return lora;
}

Status WriteGgufLora(const std::string& path, const std::string& arch, float alpha,
                     const TensorTable& tensors, const AdapterNotes& notes) {
  Metadata metadata;
  metadata.Set("general.architecture", MetadataValue(arch));
  metadata.Set("general.type", MetadataValue(std::string("adapter")));
  metadata.Set("adapter.type", MetadataValue(std::string("lora")));
  metadata.Set("adapter.lora.alpha", MetadataValue(alpha));
  for (const auto& [key, text] : notes) metadata.Set(key, MetadataValue(text));
  std::vector<GgufWriter::Declaration> declarations;
  for (const TensorInfo& tensor : tensors) declarations.push_back({tensor.name, tensor.type, tensor.shape});
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, metadata, declarations));
  for (const TensorInfo& tensor : tensors) RETURN_IF_ERROR(writer.Write(tensor.bytes));
  return writer.Finish();
}

}  // namespace thimble

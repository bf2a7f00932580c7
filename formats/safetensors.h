// Safetensors: 8-byte little-endian header length, JSON header, data (docs/formats/safetensors.md).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/tensor_table.h"

namespace thimble {

struct SafetensorsFile {
  std::vector<std::shared_ptr<const MappedFile>> files;  // one, or the shards
  std::map<std::string, std::string> metadata;           // "__metadata__"
  TensorTable tensors;  // dtypes F32 F16 BF16 F64 I8 I16 I32 I64; others refused
};

Result<SafetensorsFile> ReadSafetensors(const std::string& path);

// A folder's model.safetensors, or the shards that model.safetensors.index.json names (which must stay inside
// the folder, and hold exactly the tensors that the index says).
Result<SafetensorsFile> ReadSafetensorsDirectory(const std::string& directory);

// Writes header and tensors in one pass without holding the tensors, as GgufWriter does: declare all, then
// give their bytes in the same order. The file appears under its name only at Finish().
class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> Create(const std::string& path,
                                          const std::vector<TensorDeclaration>& tensors,
                                          const std::map<std::string, std::string>& metadata = {
                                              {"format", "pt"}});
  Status Write(std::span<const uint8_t> bytes);
  Status Finish();

 private:
  explicit SafetensorsWriter(AtomicFile file) : file_(std::move(file)) {}
  AtomicFile file_;
  uint64_t end_ = 0;  // the file's size when all is written
};

// Tensors in the table's order; the data begins at a multiple of 8.
Status WriteSafetensors(const std::string& path, const TensorTable& tensors,
                        const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace thimble

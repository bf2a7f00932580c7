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

// Tensors in the table's order, their bytes aligned to 8.
Status WriteSafetensors(const std::string& path, const TensorTable& tensors,
                        const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace thimble

// GGUF version 3 (and 2 when read): docs/formats/gguf.md. Little-endian.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/metadata.h"
#include "formats/tensor_table.h"

namespace thimble {

struct GgufFile {
  std::shared_ptr<const MappedFile> file;  // keeps the tensors' bytes alive
  uint32_t version = 3;
  uint32_t alignment = 32;
  uint64_t data_offset = 0;
  Metadata metadata;
  TensorTable tensors;
};

// Every count, length, offset and size is checked against the file's size before it is used; an error names
// the file, the byte offset and the field.
Result<GgufFile> ReadGguf(const std::string& path);

// Writes header and tensors in one pass without holding the tensors: declare all tensors (name, type, shape),
// then give each one's bytes in the same order. The file appears under its name only at Finish().
class GgufWriter {
 public:
  using Declaration = TensorDeclaration;
  // Refuses names over 64 bytes, more than 4 dimensions and rows that are not whole blocks.
  static Result<GgufWriter> Create(const std::string& path, const Metadata& metadata,
                                   const std::vector<Declaration>& tensors);
  // Of the file that Create would begin: header and tensors.
  static Result<uint64_t> FileBytes(const Metadata& metadata, const std::vector<Declaration>& tensors);
  // The next tensor's data, whole or in pieces; checked against the declaration.
  Status Write(std::span<const uint8_t> bytes);
  Status Finish();

 private:
  explicit GgufWriter(AtomicFile file) : file_(std::move(file)) {}
  AtomicFile file_;
  std::string path_;
  uint32_t alignment_ = 32;
  std::vector<uint64_t> sizes_;  // of each declared tensor, in bytes
  size_t tensor_ = 0;            // the one being written
  uint64_t written_ = 0;         // of that one
};

}  // namespace thimble

// Reading and writing whole files. Writers never leave a half-written file under the final name.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thimble {

// A read-only memory mapping of a regular file. Move-only; unmaps on destruction.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Copies a part of bytes() without mapping its pages, for what is read once or rarely. False if the file
  // has been cut short.
  bool Copy(std::span<const uint8_t> range, uint8_t* to) const;

 private:
  MappedFile(std::string path, int fd, const uint8_t* data, size_t size)
      : path_(std::move(path)), fd_(fd), data_(data), size_(size) {}
  std::string path_;
  int fd_;
  const uint8_t* data_;
  size_t size_;
};

// Reads a whole text or binary file, refusing one of more than `max_bytes`.
Result<std::string> ReadFile(const std::string& path, size_t max_bytes = size_t{1} << 30);

// A name beside `path` for a file that is written in between: whatever stands there when this is destroyed,
// or RemoveTemporaryFiles() called, is removed.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& path, const std::string& tag);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }
  Status RenameTo(const std::string& path) const;

 private:
  std::string path_;
  int slot_;
};

// Writes to a temporary name in the target's folder; Commit() syncs and renames it over the target.
// Without Commit (error, exception, interrupt seen by the caller) the temporary file is removed and the
// target keeps its old content. RemoveTemporaryFiles() is async-signal-safe and serves signal handlers.
class AtomicFile {
 public:
  static Result<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status Write(const void* data, size_t size);
  Status Write(std::string_view text) { return Write(text.data(), text.size()); }
  uint64_t offset() const { return offset_; }
  Status Commit();

 private:
  AtomicFile() = default;
  std::string path_, temporary_path_;
  int fd_ = -1;
  int slot_ = -1;
  uint64_t offset_ = 0;
};

Status WriteFileAtomically(const std::string& path, std::string_view content);
void RemoveTemporaryFiles();

}  // namespace thimble

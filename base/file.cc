#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/check.h"

namespace thimble {
namespace {

// Temporary files that are open now, as malloc'd paths, so that a signal handler can unlink them without
// locks.
std::array<std::atomic<char*>, 64> g_temporary_paths;

// Makes a path known to signal handlers. -1 with more than 64 at once: the destructors still clean up.
int Register(const std::string& path) {
  char* copy = ::strdup(path.c_str());
  for (size_t i = 0; i < g_temporary_paths.size(); ++i) {
    char* expected = nullptr;
    if (g_temporary_paths[i].compare_exchange_strong(expected, copy)) return static_cast<int>(i);
  }
  std::free(copy);
  return -1;
}

void Unregister(int slot) {
  if (slot >= 0) std::free(g_temporary_paths[static_cast<size_t>(slot)].exchange(nullptr));
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return MakeError(ErrorCode::kNotFound, "{}: cannot open: {}", path, std::strerror(errno));
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return MakeError(ErrorCode::kInvalidArgument, "{}: not a regular file", path);
  }
  const size_t size = static_cast<size_t>(st.st_size);
  if (size == 0) {
    ::close(fd);
    return MakeError(ErrorCode::kCorrupt, "{}: the file is empty", path);
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    return MakeError(ErrorCode::kIo, "{}: cannot map: {}", path, std::strerror(error));
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(path, fd, static_cast<const uint8_t*>(data), size));
}

MappedFile::~MappedFile() {
  ::munmap(const_cast<uint8_t*>(data_), size_);
  ::close(fd_);
}

bool MappedFile::Copy(std::span<const uint8_t> range, uint8_t* to) const {
  CHECK(range.data() >= data_ && range.data() + range.size() <= data_ + size_);
  for (size_t done = 0; done < range.size();) {
    const off_t at = static_cast<off_t>(range.data() - data_) + static_cast<off_t>(done);
    const ssize_t n = ::pread(fd_, to + done, range.size() - done, at);
    if (n <= 0 && !(n < 0 && errno == EINTR)) return false;
    if (n > 0) done += static_cast<size_t>(n);
  }
  return true;
}

Result<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file) return MakeError(ErrorCode::kNotFound, "{}: cannot open: {}", path, std::strerror(errno));
  std::string content;
  std::array<char, 1 << 16> buffer;
  for (size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0;) {
    content.append(buffer.data(), n);
    if (content.size() > max_bytes) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: larger than {} bytes", path, max_bytes);
    }
  }
  if (std::ferror(file.get()))
    return MakeError(ErrorCode::kIo, "{}: cannot read: {}", path, std::strerror(errno));
  return content;
}

TemporaryFile::TemporaryFile(const std::string& path, const std::string& tag)
    : path_(fmt::format("{}.tmp-{}-{}", path, ::getpid(), tag)), slot_(Register(path_)) {}

TemporaryFile::~TemporaryFile() {
  ::unlink(path_.c_str());
  Unregister(slot_);
}

Status TemporaryFile::RenameTo(const std::string& path) const {
  if (::rename(path_.c_str(), path.c_str()) == 0) return {};
  return MakeError(ErrorCode::kIo, "{}: cannot finish writing: {}; the old file, if any, is unchanged", path,
                   std::strerror(errno));
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  file.temporary_path_ = fmt::format("{}.tmp-{}", path, ::getpid());
  file.slot_ = Register(file.temporary_path_);  // before it exists
  file.fd_ = ::open(file.temporary_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) return MakeError(ErrorCode::kIo, "{}: cannot create: {}", path, std::strerror(errno));
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::move(other.temporary_path_)),
      fd_(std::exchange(other.fd_, -1)),
      slot_(std::exchange(other.slot_, -1)),
      offset_(other.offset_) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_path_.c_str());
  }
  Unregister(slot_);
}

Status AtomicFile::Write(const void* data, size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return MakeError(ErrorCode::kIo, "{}: cannot write at byte {}: {}; the old file, if any, is unchanged",
                       path_, offset_, std::strerror(n < 0 ? errno : ENOSPC));
    }
    p += n;
    size -= static_cast<size_t>(n);
    offset_ += static_cast<uint64_t>(n);
  }
  return {};
}

Status AtomicFile::Commit() {
  const bool synced = ::fsync(fd_) == 0;
  const int sync_error = errno;
  const bool closed = ::close(fd_) == 0;
  fd_ = -1;
  if (!synced || !closed || ::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    const int error = synced ? errno : sync_error;
    ::unlink(temporary_path_.c_str());
    return MakeError(ErrorCode::kIo, "{}: cannot finish writing: {}; the old file, if any, is unchanged",
                     path_, std::strerror(error));
  }
  return {};
}

Status WriteFileAtomically(const std::string& path, std::string_view content) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Write(content));
  return file.Commit();
}

void RemoveTemporaryFiles() {
  for (auto& slot : g_temporary_paths) {
    if (const char* path = slot.load()) ::unlink(path);
  }
}

}  // namespace thimble

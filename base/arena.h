// Memory for what is written once and then read from end to end again and again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace thimble {

// Hands out memory in huge pages, where the system has them: then reading at full speed does not wait for
// address translations. Memory that is never touched costs nothing; all is freed with the arena. Thread-safe.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // `bytes` of zeros at an address that is a multiple of 64. CHECKs that the system grants them.
  uint8_t* Allocate(size_t bytes);

 private:
  struct Chunk {
    void* map;
    size_t size;
  };
  std::mutex mutex_;
  std::vector<Chunk> chunks_;
  uint8_t *next_ = nullptr, *end_ = nullptr;  // the free part of the newest chunk
};

}  // namespace thimble

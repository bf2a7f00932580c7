#include "base/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/memory.h"

namespace thimble {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunk = size_t{256} << 20;  // of address space

}  // namespace

Arena::~Arena() {
  for (const Chunk& chunk : chunks_) munmap(chunk.map, chunk.size);
}

uint8_t* Arena::Allocate(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  std::lock_guard lock(mutex_);
  if (bytes > static_cast<size_t>(end_ - next_)) {
    const size_t size = std::max(kChunk, (bytes + kHugePage - 1) / kHugePage * kHugePage) + kHugePage;
    void* map =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(map != MAP_FAILED);
    chunks_.push_back({map, size});
    uint8_t* const begin = static_cast<uint8_t*>(map);
    next_ = begin + (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
    end_ = begin + size;
    AdviseHugePages(next_, static_cast<size_t>(end_ - next_));
  }
  return std::exchange(next_, next_ + bytes);
}

}  // namespace thimble

#include "ops/tensor.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/memory.h"

namespace thimble {
namespace {

// At a multiple of 64, by malloc: what std::aligned_alloc has given and got back is too small for it when the
// same size is asked for again, which leaves holes all over the heap.
void* AlignedAllocate(size_t bytes) {
  constexpr size_t kAlignment = 64;
  void* const p = std::malloc(bytes + kAlignment);
  CHECK(p != nullptr);
  const auto aligned = (reinterpret_cast<uintptr_t>(p) + kAlignment) & ~(kAlignment - 1);
  reinterpret_cast<void**>(aligned)[-1] = p;
  AdviseHugePages(p, bytes);
  return reinterpret_cast<void*>(aligned);
}
void AlignedFree(void* p) {
  std::free(static_cast<void**>(p)[-1]);
}

thread_local bool closed = false;  // the thread ends, and may still drop tensors

// Small buffers that were freed, kept by size for the next tensors: generating a token makes and drops some
// hundred of them, always of the same sizes.
class FreeBuffers {
 public:
  ~FreeBuffers() {
    for (auto& list : lists_) {
      for (void* p : list) AlignedFree(p);
    }
    closed = true;
  }

  void* Take(size_t bytes) {
    const size_t i = ListOf(bytes);
    if (i >= kLists) return AlignedAllocate(bytes);
    if (closed || lists_[i].empty()) return AlignedAllocate(std::bit_ceil(bytes));
    void* const p = lists_[i].back();
    lists_[i].pop_back();
    return p;
  }
  void Give(void* p, size_t bytes) {
    const size_t i = ListOf(bytes);
    if (closed || i >= kLists || lists_[i].size() == kMost) return AlignedFree(p);
    lists_[i].push_back(p);
  }

 private:
  static constexpr size_t kLists = 13;  // 64 bytes to 256 KiB
  static constexpr size_t kMost = 16;   // buffers of a size

  static size_t ListOf(size_t bytes) { return static_cast<size_t>(std::bit_width(bytes - 1)) - 6; }

  std::array<std::vector<void*>, kLists> lists_;
};

thread_local FreeBuffers free_buffers;

std::atomic<int64_t> bytes_held{0}, most_held{0};

void Count(int64_t bytes) {
  const int64_t now = bytes_held.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t most = most_held.load(std::memory_order_relaxed);
  while (now > most && !most_held.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
}

size_t BufferBytes(int64_t n) {
  return std::max<size_t>(64, (static_cast<size_t>(n) * sizeof(float) + 63) / 64 * 64);
}

// For the nodes.
template <typename T>
struct RecyclingAllocator {
  using value_type = T;
  RecyclingAllocator() = default;
  template <typename U>
  RecyclingAllocator(const RecyclingAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(free_buffers.Take(Bytes(n))); }
  void deallocate(T* p, size_t n) { free_buffers.Give(p, Bytes(n)); }
  static size_t Bytes(size_t n) { return (n * sizeof(T) + 63) / 64 * 64; }
  bool operator==(const RecyclingAllocator&) const { return true; }
};

}  // namespace

int64_t TensorBytes() {
  return bytes_held.load(std::memory_order_relaxed);
}

int64_t PeakTensorBytes() {
  return most_held.load(std::memory_order_relaxed);
}

void ResetPeakTensorBytes() {
  most_held.store(TensorBytes(), std::memory_order_relaxed);
}

void Tensor::Free::operator()(float* p) const {
  Count(-static_cast<int64_t>(bytes));
  free_buffers.Give(p, bytes);
}

Tensor::Buffer Tensor::Allocate(int64_t n) {
  const size_t bytes = BufferBytes(n);
  float* p = static_cast<float*>(free_buffers.Take(bytes));
  CHECK(p != nullptr);
  Count(static_cast<int64_t>(bytes));
  return Buffer(p, Free{bytes});
}

Tensor Tensor::Empty(int64_t rows, int64_t cols) {
  CHECK(rows >= 0 && cols >= 0);
  Tensor t;
  t.node_ =
      std::allocate_shared<Node>(RecyclingAllocator<Node>(), Node{rows, cols, Allocate(rows * cols), {}});
  return t;
}

Tensor Tensor::Zeros(int64_t rows, int64_t cols) {
  Tensor t = Empty(rows, cols);
  std::memset(t.data(), 0, static_cast<size_t>(rows * cols) * sizeof(float));
  return t;
}

Tensor Tensor::WithoutData(int64_t rows, int64_t cols) {
  Tensor t;
  t.node_ = std::allocate_shared<Node>(RecyclingAllocator<Node>(), Node{rows, cols, {}, {}});
  return t;
}

void Tensor::AllocateData() const {
  if (!node_->data) node_->data = Allocate(size());
}

Tensor::Target Tensor::GradTarget() const {
  const bool fresh = !node_->grad;
  if (fresh) node_->grad = Allocate(size());
  return {node_->grad.get(), fresh};
}

float* Tensor::grad() const {
  const auto [data, fresh] = GradTarget();
  if (fresh) ZeroGrad();
  return data;
}

void Tensor::ZeroGrad() const {
  if (node_->grad) std::memset(node_->grad.get(), 0, static_cast<size_t>(size()) * sizeof(float));
}

}  // namespace thimble

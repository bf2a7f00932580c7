#include "ops/tensor.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace thimble {

void Tensor::Free::operator()(float* p) const {
  std::free(p);
}

Tensor::Buffer Tensor::Allocate(int64_t n) {
  const size_t bytes = (static_cast<size_t>(n) * sizeof(float) + 63) / 64 * 64;
  float* p = static_cast<float*>(std::aligned_alloc(64, bytes > 0 ? bytes : 64));
  CHECK(p != nullptr);
  return Buffer(p);
}

Tensor Tensor::Empty(int64_t rows, int64_t cols) {
  CHECK(rows >= 0 && cols >= 0);
  Tensor t;
  t.node_ = std::make_shared<Node>(Node{rows, cols, Allocate(rows * cols), nullptr});
  return t;
}

Tensor Tensor::Zeros(int64_t rows, int64_t cols) {
  Tensor t = Empty(rows, cols);
  std::memset(t.data(), 0, static_cast<size_t>(rows * cols) * sizeof(float));
  return t;
}

float* Tensor::grad() const {
  if (!node_->grad) {
    node_->grad = Allocate(size());
    ZeroGrad();
  }
  return node_->grad.get();
}

void Tensor::ZeroGrad() const {
  if (node_->grad) std::memset(node_->grad.get(), 0, static_cast<size_t>(size()) * sizeof(float));
}

}  // namespace thimble

// The one activation type: a row-major F32 matrix with shared storage and, for training, a gradient.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace thimble {

// Shape [rows, cols]. Copies share storage. Memory is aligned to 64 bytes.
class Tensor {
 public:
  Tensor() = default;
  static Tensor Empty(int64_t rows, int64_t cols);  // not initialized
  static Tensor Zeros(int64_t rows, int64_t cols);
  static Tensor WithoutData(int64_t rows, int64_t cols);  // for a gradient alone, at first
  void AllocateData() const;
  void DropData() const { node_->data.reset(); }

  explicit operator bool() const { return node_ != nullptr; }
  int64_t rows() const { return node_->rows; }
  int64_t cols() const { return node_->cols; }
  int64_t size() const { return node_->rows * node_->cols; }
  float* data() const { return node_->data.get(); }
  float* row(int64_t i) const { return node_->data.get() + i * node_->cols; }

  // Whether Backward must fill grad(). Ops set it on their result if any input has it.
  bool requires_grad() const { return node_->requires_grad; }
  void set_requires_grad(bool on) const { node_->requires_grad = on; }
  // Same shape as the data; zeros at first use.
  float* grad() const;
  // The same for who fills a fresh one, which is not initialized, or else adds.
  struct Target {
    float* data;
    bool fresh;
  };
  Target GradTarget() const;
  bool has_grad() const { return node_->grad != nullptr; }
  void ZeroGrad() const;
  // Moves another tensor's gradient here (same shape).
  void TakeGrad(const Tensor& from) const { node_->grad = std::move(from.node_->grad); }
  // For an op that computes its gradient in place of its result.
  void SwapDataAndGrad() const { node_->data.swap(node_->grad); }

 private:
  struct Free {
    size_t bytes;
    void operator()(float* p) const;
  };
  using Buffer = std::unique_ptr<float[], Free>;
  static Buffer Allocate(int64_t n);
  struct Node {
    int64_t rows, cols;
    Buffer data, grad;
    bool requires_grad = false;
  };
  std::shared_ptr<Node> node_;
};

// Bytes that tensors hold now, and the most since the last call of ResetPeakTensorBytes, in all threads.
int64_t TensorBytes();
int64_t PeakTensorBytes();
void ResetPeakTensorBytes();

// Records how to propagate gradients while a forward pass runs, and runs it backwards once. A step is
// dropped, with the activations that it holds, as soon as it has run.
class Tape {
 public:
  void Record(std::function<void()> backward) { steps_.push_back(std::move(backward)); }
  void Backward() {
    while (!steps_.empty()) {
      auto step = std::move(steps_.back());
      steps_.pop_back();
      step();
    }
  }

 private:
  std::vector<std::function<void()>> steps_;
};

}  // namespace thimble

// Tensors as formats see them: a name, a type, a shape, bytes. No math.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "codec/types.h"

namespace thimble {

struct TensorInfo {
  std::string name;
  WeightType type = WeightType::kF32;
  std::vector<int64_t> shape;      // outermost first, as PyTorch prints it; the last dimension is contiguous
  std::span<const uint8_t> bytes;  // not owned

  int64_t n_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  // The contiguous dimension; 1 for a scalar.
  int64_t row_size() const { return shape.empty() ? 1 : shape.back(); }
  int64_t n_rows() const { return row_size() == 0 ? 0 : n_elements() / row_size(); }
};

// A tensor to be written.
struct TensorDeclaration {
  std::string name;
  WeightType type;
  std::vector<int64_t> shape;  // outermost first
};

// Keeps file order; names are unique.
class TensorTable {
 public:
  // False if the name is taken.
  bool Add(TensorInfo tensor) {
    if (!index_.emplace(tensor.name, tensors_.size()).second) return false;
    tensors_.push_back(std::move(tensor));
    return true;
  }
  const TensorInfo* Find(std::string_view name) const {
    auto it = index_.find(std::string(name));
    return it == index_.end() ? nullptr : &tensors_[it->second];
  }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  size_t size() const { return tensors_.size(); }
  auto begin() const { return tensors_.begin(); }
  auto end() const { return tensors_.end(); }

 private:
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace thimble

// Strings side by side in one piece of memory: a vocabulary has many, and they are short.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

class StringList {
 public:
  using value_type = std::string_view;

  StringList() = default;
  StringList(const std::vector<std::string>& strings) {  // NOLINT: implicit on purpose
    for (const std::string& text : strings) Add(text);
  }
  // `bytes`: of all strings together.
  void Reserve(size_t n, size_t bytes) {
    ends_.reserve(n);
    bytes_.reserve(bytes);
  }
  void Add(std::string_view text) {
    bytes_ += text;
    ends_.push_back(bytes_.size());
  }

  size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }
  std::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

  std::vector<std::string> ToVector() const {
    std::vector<std::string> out;
    out.reserve(size());
    for (size_t i = 0; i < size(); ++i) out.emplace_back((*this)[i]);
    return out;
  }
  bool operator==(const StringList&) const = default;

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

}  // namespace thimble

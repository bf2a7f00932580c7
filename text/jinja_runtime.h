// What one rendering shares: its budget of steps and depth, its clock, and the objects to take apart at its
// end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace thimble::jinja {

// A step is an evaluated node or about four bytes of new data.
inline constexpr size_t kMaxSteps = 20'000'000;
inline constexpr int kMaxNesting = 1200;  // evaluation depth: nested expressions, statements and macro calls

inline constexpr size_t kItemSteps = sizeof(Value) / 4;  // the price of one item of a new list,
inline constexpr size_t kDictEntrySteps = 32;            // of one entry of a new dict,
inline constexpr size_t kObjectSteps = 16;               // and of anything on the heap

// Objects that may hold themselves in a cycle.
struct Clearable {
  virtual ~Clearable() = default;
  virtual void Clear() = 0;
};

class Runtime {
 public:
  explicit Runtime(std::optional<int64_t> now) : now_(now) {}
  ~Runtime() {
    for (const auto& object : kept_) object->Clear();
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  void Charge(size_t steps = 1) {
    if (steps > steps_left_) Fail(ErrorKind::kLimit, "the template took more than {} steps", kMaxSteps);
    steps_left_ -= steps;
  }

  // Looking for `needle` in `text`, which compares each with each at worst.
  void ChargeSearch(std::string_view text, std::string_view needle) {
    Charge(1 + text.size() / 16 * (1 + needle.size() / 16));
  }

  // New values, charged by their size.
  Value Text(std::string text, bool markup = false) {
    Charge(text.size() / 4 + kObjectSteps);
    return Value::String(std::move(text), markup);
  }
  Value List(std::vector<Value> items) {
    Charge(items.size() * kItemSteps + kObjectSteps);
    return Value::List(std::move(items));
  }
  Value Tuple(std::vector<Value> items) {
    Charge(items.size() * kItemSteps + kObjectSteps);
    return Value::Tuple(std::move(items));
  }

  // Keeps `object` alive to the end and then clears it, so that cycles through it are freed.
  void Keep(std::shared_ptr<Clearable> object) {
    Charge(kObjectSteps);
    kept_.push_back(std::move(object));
  }

  std::optional<int64_t> now() const { return now_; }

  // Counts a level of evaluation for as long as it lives.
  class Nest {
   public:
    explicit Nest(Runtime& runtime) : runtime_(runtime) {
      if (runtime.nesting_ >= kMaxNesting) {
        Fail(ErrorKind::kLimit, "the template nests or recurses deeper than {} levels", kMaxNesting);
      }
      ++runtime.nesting_;
    }
    ~Nest() { --runtime_.nesting_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Runtime& runtime_;
  };

 private:
  std::optional<int64_t> now_;
  size_t steps_left_ = kMaxSteps;
  int nesting_ = 0;
  std::vector<std::shared_ptr<Clearable>> kept_;
};

}  // namespace thimble::jinja

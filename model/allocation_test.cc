// Generating a token must not allocate: an allocation may wait for another thread's, and takes time.
#include <atomic>
#include <cstdlib>
#include <new>

#include "model/test_support.h"

namespace {
std::atomic<int64_t> n_allocations{0};
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCounts = false;  // a sanitizer has an operator new of its own
#else
constexpr bool kCounts = true;
// The program's operator new, which counts.
void* operator new(size_t bytes) {
  ++n_allocations;
  void* const p = std::malloc(bytes == 0 ? 1 : bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
#endif

namespace thimble {
namespace {

TEST(AllocationTest, ATokenNeedsNone) {
  if (!kCounts) GTEST_SKIP() << "allocations are the sanitizer's";
  for (const std::string& name : GoldenModels()) {
    SCOPED_TRACE(name);
    const auto model = GoldenModel(name);
    ThreadPool pool(1);  // another thread takes its own scratch memory whenever it first gets a piece
    const Context ctx{.pool = pool};
    const Adapter adapter = RandomAdapter(*model, 4, 5);
    const AppliedAdapter applied{.adapter = &adapter};
    KvCache cache(model->config(), kKeyBlock);
    const auto run = [&](int n) {
      const int64_t before = n_allocations;
      for (int i = 0; i < n; ++i) {
        const int32_t token[] = {i % 7};
        const std::span adapters(&applied, i % 2 == 0 ? 0 : 1);
        Logits(ctx, *model,
               ForwardHidden(ctx, *model, {.tokens = token, .cache = &cache, .adapters = adapters}));
      }
      return n_allocations - before;
    };
    EXPECT_GT(run(4), 0) << "allocations are not counted";  // what is kept is made first
    EXPECT_EQ(run(40), 0);
  }
}

}  // namespace
}  // namespace thimble

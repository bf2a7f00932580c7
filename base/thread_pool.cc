#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"

namespace thimble {
namespace {

// How often a waiting thread polls before it sleeps: some 50 microseconds, to bridge the gap between two
// operations of one forward pass without burning a core between requests.
constexpr int kSpins = 2000;

constexpr double kStall = 1e-4;     // seconds
constexpr double kAlone = 10;       // times as long as was waited,
constexpr double kMostAlone = 0.1;  // seconds

constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kOneLoop = uint64_t{1} << 32;
constexpr uint64_t kWorkers = kOpen - 1;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

int NumProcessors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int n_threads)
    : n_threads_(n_threads > 0 ? n_threads : NumProcessors()), parts_(static_cast<size_t>(n_threads_)) {
  for (int i = 1; i < n_threads_; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

int64_t ThreadPool::RunPieces(int thread) {
  int64_t done = 0;
  for (int i = 0; i < n_threads_; ++i) {
    Part& part = parts_[static_cast<size_t>((thread + i) % n_threads_)];
    for (int64_t begin; (begin = part.next.fetch_add(grain_, std::memory_order_relaxed)) < part.end; ++done) {
      piece_(fn_, begin, std::min(begin + grain_, part.end), thread);
    }
  }
  return done;
}

// Enters the loop if it is open and not the one that this worker was in last.
bool ThreadPool::Join(uint64_t* last_loop) {
  uint64_t state = state_.load();
  while ((state & kOpen) != 0 && state / kOneLoop != *last_loop) {
    if (state_.compare_exchange_weak(state, state + 1)) {
      *last_loop = state / kOneLoop;
      return true;
    }
  }
  return false;
}

void ThreadPool::Leave() {
  const uint64_t left = state_.fetch_sub(1) - 1;
  if ((left & (kOpen | kWorkers)) == 0 && caller_sleeps_.load()) {
    std::lock_guard lock(mutex_);
    done_.notify_one();
  }
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t last_loop = 0;
  for (;;) {
    bool joined = Join(&last_loop);
    for (int i = 0; i < kSpins && !joined && !stop_.load(std::memory_order_relaxed); ++i) {
      Pause();
      joined = Join(&last_loop);
    }
    if (!joined) {
      std::unique_lock lock(mutex_);
      ++sleepers_;
      wake_.wait(lock, [&] { return stop_.load() || (joined = Join(&last_loop)); });
      --sleepers_;
      if (!joined) return;
    }
    RunPieces(thread);
    Leave();
  }
}

void ThreadPool::Run(int64_t n, int64_t grain, Piece piece, const void* fn) {
  CHECK(grain > 0);
  if (n <= 0) return;
  const double start = workers_.empty() || n <= grain ? 0 : Seconds();
  if (workers_.empty() || n <= grain || start < alone_until_) {
    for (int64_t begin = 0; begin < n; begin += grain) piece(fn, begin, std::min(begin + grain, n), 0);
    return;
  }
  grain_ = grain;
  piece_ = piece;
  fn_ = fn;
  const int64_t n_pieces = (n + grain - 1) / grain;
  for (int i = 0; i < n_threads_; ++i) {
    Part& part = parts_[static_cast<size_t>(i)];
    part.next.store(n_pieces * i / n_threads_ * grain, std::memory_order_relaxed);
    part.end = std::min(n, n_pieces * (i + 1) / n_threads_ * grain);
  }
  // A worker counts itself as a sleeper before it looks at the state for the last time, and this thread opens
  // the loop before it looks for sleepers: one of the two sees the other.
  state_.fetch_add(kOneLoop + kOpen);
  if (sleepers_.load() > 0) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  const int64_t pieces = RunPieces(0);
  state_.fetch_sub(kOpen);
  const auto empty = [&] { return (state_.load() & kWorkers) == 0; };
  for (int i = 0; i < kSpins && !empty(); ++i) Pause();
  if (empty()) return;
  const double waiting = Seconds();
  {
    std::unique_lock lock(mutex_);
    // Read-modify-write, since a loop was seen to hang in QEMU 7.2, whose ARM on x86 seems to let the load
    // behind pass a plain sequentially consistent store.
    caller_sleeps_.exchange(true);
    done_.wait(lock, empty);
    caller_sleeps_ = false;
  }
  // A worker that takes much longer over its last piece than this thread over its own is one that the system
  // does not run, since another process wants its processor. Work goes on without the others for so long that
  // waiting costs a small part of the time.
  const double end = Seconds(), stalled = end - waiting;
  const double piece_time = (waiting - start) / static_cast<double>(std::max<int64_t>(pieces, 1));
  if (stalled > kStall + 4 * piece_time) alone_until_ = end + std::min(kAlone * stalled, kMostAlone);
}

}  // namespace thimble

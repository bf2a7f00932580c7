// A fixed set of worker threads that share one loop at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace thimble {

class ThreadPool {
 public:
  // `n_threads` counts the calling thread; 0 means the number of processors that this process may use.
  explicit ThreadPool(int n_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return n_threads_; }

  // Runs fn(begin, end, thread) over pieces of [0, n) of `grain` items (the last may be shorter), on all
  // threads; returns when all are done. Each thread goes through a part of its own from its begin on, so that
  // it reads memory in order, and then takes what is left of the others'. `thread` is in [0, n_threads) and
  // unique per running call, so that it may index scratch memory. Where the system does not run a worker in
  // the middle of a piece, the next loops do without the workers for a while. Not reentrant: fn must not call
  // ParallelFor.
  template <typename Fn>
  void ParallelFor(int64_t n, int64_t grain, const Fn& fn) {
    Run(
        n, grain,
        [](const void* f, int64_t begin, int64_t end, int thread) {
          (*static_cast<const Fn*>(f))(begin, end, thread);
        },
        &fn);
  }

 private:
  using Piece = void (*)(const void* fn, int64_t begin, int64_t end, int thread);

  void Run(int64_t n, int64_t grain, Piece piece, const void* fn);
  void WorkerLoop(int thread);
  int64_t RunPieces(int thread);  // returns how many

  bool Join(uint64_t* last_loop);
  void Leave();

  const int n_threads_;
  std::vector<std::thread> workers_;
  struct alignas(64) Part {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  // The loop being run. Written only while no worker is in it.
  int64_t grain_ = 1;
  Piece piece_ = nullptr;
  const void* fn_ = nullptr;
  std::vector<Part> parts_;  // one per thread
  // Counts the loops from bit 32 up; bit 31: the loop may be joined; below: the workers that are in it. A
  // worker that comes too late finds the loop closed, so nobody waits for a worker that the system does not
  // run.
  std::atomic<uint64_t> state_{0};
  double alone_until_ = 0;  // on the clock of Seconds(); only the caller's
  // For threads that have polled in vain.
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false}, caller_sleeps_{false};
};

// The number of processors that this process may run on.
int NumProcessors();

}  // namespace thimble

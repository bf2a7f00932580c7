#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace thimble {
namespace {

TEST(ThreadPoolTest, CoversEachItemOnce) {
  ThreadPool pool(4);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> hits(997);
    pool.ParallelFor(997, 1 + round % 50, [&](int64_t begin, int64_t end, int thread) {
      ASSERT_LT(thread, 4);
      for (int64_t i = begin; i < end; ++i) hits[i].fetch_add(1);
    });
    for (auto& hit : hits) ASSERT_EQ(hit.load(), 1);
  }
}

TEST(ThreadPoolTest, WhatTheLoopWroteIsSeenAndSeesWhatWasWritten) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64);
  for (int64_t round = 0; round < 5000; ++round) {
    std::fill(values.begin(), values.end(), round);
    pool.ParallelFor(64, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[i] += i;
    });
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), 64 * round + 63 * 32);
  }
}

TEST(ThreadPoolTest, WorkersWakeFromSleep) {
  for (int round = 0; round < 10; ++round) {
    ThreadPool pool(2);
    std::this_thread::sleep_for(std::chrono::milliseconds(round));  // longer than a worker polls
    // Each piece waits for the other, so that both threads are needed.
    std::atomic<int> arrived = 0;
    std::set<int> threads;
    std::mutex mutex;
    pool.ParallelFor(2, 1, [&](int64_t, int64_t, int thread) {
      {
        std::lock_guard lock(mutex);
        threads.insert(thread);
      }
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    ASSERT_EQ(threads, (std::set<int>{0, 1}));
  }
}

TEST(ThreadPoolTest, TheCallerWaitsForASlowWorker) {
  int rounds_alone = 0;
  for (int round = 0; round < 8; ++round) {
    ThreadPool pool(2);
    std::atomic<bool> worker_has_one = false, done = false;
    pool.ParallelFor(2, 1, [&](int64_t, int64_t, int thread) {
      if (thread == 0) {
        while (!worker_has_one) std::this_thread::yield();
        return;
      }
      worker_has_one = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // longer than the caller polls
      done = true;
    });
    ASSERT_TRUE(done);
    // A worker that was not run is not asked again at once (unless this thread was not run either)...
    std::atomic<int> by_worker = 0;
    pool.ParallelFor(2, 1, [&](int64_t, int64_t, int thread) { by_worker += thread; });
    rounds_alone += by_worker == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    // ... but after a while it is.
    worker_has_one = false;
    pool.ParallelFor(2, 1, [&](int64_t, int64_t, int thread) {
      if (thread == 1) worker_has_one = true;
      while (!worker_has_one) std::this_thread::yield();
    });
  }
  EXPECT_GT(rounds_alone, 0);
}

TEST(ThreadPoolTest, StopsAtAnyTime) {
  for (int round = 0; round < 100; ++round) {
    ThreadPool pool(4);
    for (int i = 0; i < round % 3; ++i) pool.ParallelFor(8, 1, [](int64_t, int64_t, int) {});
  }
}

}  // namespace
}  // namespace thimble

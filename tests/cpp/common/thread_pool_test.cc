#include "common/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace rudder {
namespace {

TEST(ThreadPool, CoversEveryIndexOnceAlsoWithSeveralCallers) {
  for (const std::size_t threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    const auto run = [&pool] {
      for (const std::size_t count : {0, 1, 7, 1000, 4096}) {
        std::vector<std::atomic<int>> seen(count);
        pool.split(count, 16, [&](std::size_t begin, std::size_t end) {
          for (std::size_t i = begin; i < end; ++i) ++seen[i];
        });
        for (const auto& times : seen) ASSERT_EQ(times.load(), 1);
      }
    };
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i)
      callers.emplace_back([&] {
        for (int round = 0; round < 50; ++round) run();
      });
    for (auto& caller : callers) caller.join();
  }
}

}  // namespace
}  // namespace rudder

// A few threads that split a loop between them and the caller. Any thread may call `split`, also several at
// once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rudder {

class ThreadPool {
 public:
  // `threads` counts the caller: 1 means that split() runs everything itself.
  explicit ThreadPool(std::size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t threads() const { return workers_.size() + 1; }

  // Calls body(begin, end) for pieces of at most `grain` that cover [0, count), and returns when all are
  // done. The body must not throw.
  void split(std::size_t count, std::size_t grain, const std::function<void(std::size_t, std::size_t)>& body);

 private:
  struct Loop;
  void work();
  static void run(Loop& loop);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Loop>> loops_;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace rudder

#include "common/thread_pool.h"

#include <algorithm>
#include <atomic>

namespace rudder {

struct ThreadPool::Loop {
  const std::function<void(std::size_t, std::size_t)>* body;
  std::size_t count, grain;
  std::atomic<std::size_t> next{0};
  std::size_t done = 0;  // of `count`, under `mutex`
  std::mutex mutex;
  std::condition_variable finished;
};

ThreadPool::ThreadPool(std::size_t threads) {
  for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Loop& loop) {
  std::size_t mine = 0;
  for (;;) {
    const std::size_t begin = loop.next.fetch_add(loop.grain, std::memory_order_relaxed);
    if (begin >= loop.count) break;
    const std::size_t end = std::min(loop.count, begin + loop.grain);
    (*loop.body)(begin, end);
    mine += end - begin;
  }
  if (mine == 0) return;  // the body may be gone already: touch nothing but the loop itself
  const std::lock_guard lock(loop.mutex);
  loop.done += mine;
  if (loop.done == loop.count) loop.finished.notify_all();
}

void ThreadPool::work() {
  for (;;) {
    std::shared_ptr<Loop> loop;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !loops_.empty(); });
      if (stop_) return;
      loop = loops_.front();
      // The loop leaves the queue when its pieces run out, so that every idle worker may join it.
      if (loop->next.load(std::memory_order_relaxed) >= loop->count) {
        loops_.pop_front();
        continue;
      }
    }
    run(*loop);
  }
}

void ThreadPool::split(std::size_t count, std::size_t grain,
                       const std::function<void(std::size_t, std::size_t)>& body) {
  if (count == 0) return;
  if (workers_.empty() || count <= grain) {
    body(0, count);
    return;
  }
  auto loop = std::make_shared<Loop>();
  loop->body = &body;
  loop->count = count;
  loop->grain = grain;
  {
    const std::lock_guard lock(mutex_);
    loops_.push_back(loop);
  }
  wake_.notify_all();
  run(*loop);
  {
    std::unique_lock lock(loop->mutex);
    loop->finished.wait(lock, [&] { return loop->done == loop->count; });
  }
  const std::lock_guard lock(mutex_);
  std::erase(loops_, loop);
}

}  // namespace rudder

// Copies that a GPU makes of somebody's rows, until they are over. Any thread may call any method.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "cuda/copy.h"

namespace rudder {

class Copies {
 public:
  void add(cuda::CopyPtr copy) {
    const std::lock_guard lock(mutex_);
    forget_done();
    copies_.push_back(std::move(copy));
  }
  bool over() {
    const std::lock_guard lock(mutex_);
    forget_done();
    return copies_.empty();
  }
  // The one that was begun first, of those that are not over; null where all are.
  cuda::CopyPtr oldest() {
    const std::lock_guard lock(mutex_);
    forget_done();
    return copies_.empty() ? nullptr : copies_.front();
  }
  // Waits for the GPU: for ends, not for steps.
  void wait() {
    const std::lock_guard lock(mutex_);
    for (const cuda::CopyPtr& copy : copies_) copy->wait();
    copies_.clear();
  }

 private:
  void forget_done() {
    std::erase_if(copies_, [](const cuda::CopyPtr& copy) { return copy->done(); });
  }

  std::mutex mutex_;
  std::vector<cuda::CopyPtr> copies_;
};

}  // namespace rudder

// Keeps the completions of a transport, for tests.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>

#include "transport/transport.h"

namespace rudder {

class Sink final : public CompletionSink {
 public:
  void complete(Completion completion) override {
    const std::lock_guard lock(mutex_);
    ++completions_;
    done_[completion.ticket] = completion;
    changed_.notify_all();
  }
  Completion wait(Ticket ticket) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_.contains(ticket); });
    return done_[ticket];
  }
  std::size_t completions() {
    const std::lock_guard lock(mutex_);
    return completions_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Ticket, Completion> done_;
  std::size_t completions_ = 0;
};

}  // namespace rudder

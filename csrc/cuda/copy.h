// A copy under way on the GPU, until it is over. Its sources and the list of its launch must stay while it
// runs. Thread-safety: any thread may ask.
#pragma once

#include <memory>
#include <utility>

#include "cuda/runtime.h"

namespace rudder::cuda {

class Copy {
 public:
  Copy(std::shared_ptr<Runtime> runtime, Event event) : runtime_(std::move(runtime)), event_(event) {}
  ~Copy();
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  // A copy that failed counts as done: its memory is not touched any more.
  bool done() noexcept;
  void wait() noexcept;
  Event event() const { return event_; }

 private:
  const std::shared_ptr<Runtime> runtime_;
  const Event event_;
};
using CopyPtr = std::shared_ptr<Copy>;

}  // namespace rudder::cuda

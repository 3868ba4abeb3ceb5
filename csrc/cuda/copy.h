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

  // A copy on a GPU that was lost counts as done: its memory is not touched any more. Where the GPU does not
  // tell, it is not done: whoever gave up its rows then could have others read in their place.
  bool done() noexcept;
  // False where nothing says that it is done.
  bool wait() noexcept;
  Event event() const { return event_; }

 private:
  const std::shared_ptr<Runtime> runtime_;
  const Event event_;
};
using CopyPtr = std::shared_ptr<Copy>;

}  // namespace rudder::cuda

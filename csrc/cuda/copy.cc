#include "cuda/copy.h"

namespace rudder::cuda {

Copy::~Copy() { runtime_->destroy_event(event_); }

bool Copy::done() noexcept {
  try {
    return runtime_->done(event_);
  } catch (...) {
    return true;
  }
}

void Copy::wait() noexcept {
  try {
    runtime_->wait(event_);
  } catch (...) {  // NOLINT(bugprone-empty-catch): it is over, which is what was asked
  }
}

}  // namespace rudder::cuda

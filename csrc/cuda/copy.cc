#include "cuda/copy.h"

namespace rudder::cuda {

Copy::~Copy() { runtime_->destroy_event(event_); }

bool Copy::done() noexcept {
  try {
    return runtime_->done(event_);
  } catch (const DeviceLost&) {
    return true;
  } catch (...) {
    return false;
  }
}

bool Copy::wait() noexcept {
  try {
    runtime_->wait(event_);
  } catch (const DeviceLost&) {
    return true;
  } catch (...) {
    return false;
  }
  return true;
}

}  // namespace rudder::cuda

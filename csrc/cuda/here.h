// Makes a GPU the calling thread's for the length of a scope, and leaves alone what the thread's framework
// relies on:
//
//   - The GPU that was the thread's is so again afterwards, unless this process has no context there. A fresh
//     thread stands on GPU 0 without having asked for it, and going back would open a context on GPU 0, of
//     hundreds of megabytes, in every rank of a host. torch's MaybeSetDevice leaves such a thread where it
//     is, too.
//   - A CUDA graph that another thread captures meanwhile is not disturbed: in the usual mode CUDA refuses
//     calls that ask or wait, and the capture would fail with them (torch asks its own events so).
#pragma once

#include "cuda/calls.h"

namespace rudder::cuda {

class Here {
 public:
  // `calls` outlives it.
  Here(const Calls& calls, int device) : calls_(calls) {
    calls_.thread_exchange_stream_capture_mode(&capture_mode_);
    error_ = calls_.get_device(&before_);
    if (error_ == 0 && before_ != device) {
      error_ = calls_.set_device(device);
      moved_ = error_ == 0;
    }
    if (error_ != 0) calls_.get_last_error();
  }
  ~Here() {
    if (moved_ && has_context(before_) && calls_.set_device(before_) != 0) calls_.get_last_error();
    calls_.thread_exchange_stream_capture_mode(&capture_mode_);
  }
  Here(const Here&) = delete;
  Here& operator=(const Here&) = delete;

  // Of CUDA, where the GPU could not be made the thread's; else 0.
  int error() const { return error_; }

 private:
  bool has_context(int device) const {
    unsigned flags = 0;
    int active = 1;
    return calls_.primary_context_state == nullptr ||
           calls_.primary_context_state(device, &flags, &active) != 0 || active != 0;
  }

  const Calls& calls_;
  int capture_mode_ = kCaptureRelaxed;  // from then on the one before
  int before_ = 0;
  int error_ = 0;
  bool moved_ = false;
};

}  // namespace rudder::cuda

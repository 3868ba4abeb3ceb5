// Memory that only grows: the staging of an exchange, in device memory or pinned host memory. Growing waits
// for the device, as CUDA's allocations do; after a few rounds it has the size that the job needs.
// One thread uses it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "common/error.h"
#include "transport/nccl/cuda_api.h"

namespace rudder::nccl {

class Buffer {
 public:
  enum class Kind { kDevice, kPinned };

  // `cuda` outlives it.
  Buffer(const Cuda& cuda, Kind kind) : cuda_(cuda), kind_(kind) {}
  ~Buffer() { release(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // At least so many bytes; what it held is lost where it grows. Throws Error(kOutOfMemory).
  std::byte* of(std::size_t bytes) {
    if (bytes <= bytes_) return data_;
    release();
    const std::size_t wanted = bytes + bytes / 2;  // so that slowly growing rounds do not grow it each time
    void* memory = nullptr;
    const int error = kind_ == Kind::kDevice
                          ? cuda_.malloc(&memory, wanted)
                          : cuda_.host_alloc(&memory, wanted, cuda::kHostPortable | cuda::kHostMapped);
    if (error != 0) {
      cuda_.get_last_error();
      throw Error(ErrorCode::kOutOfMemory, std::to_string(wanted) + " bytes of " +
                                               (kind_ == Kind::kDevice ? "device" : "pinned") +
                                               " memory for a round: " + cuda_.get_error_string(error));
    }
    data_ = static_cast<std::byte*>(memory);
    bytes_ = wanted;
    return data_;
  }
  std::byte* data() const { return data_; }
  // For ever: the device may still use it.
  void keep() noexcept { data_ = nullptr; }

 private:
  void release() noexcept {
    if (data_ != nullptr) kind_ == Kind::kDevice ? cuda_.free(data_) : cuda_.free_host(data_);
    data_ = nullptr;
    bytes_ = 0;
  }

  const Cuda& cuda_;
  const Kind kind_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace rudder::nccl

// The CUDA runtime as the exchange calls it: the table of cuda/calls.h, from a library found at run time, so
// that it needs no build with CUDA. A runtime that the process has already (torch's) is used.
#pragma once

#include <string>
#include <vector>

#include "cuda/calls.h"

namespace rudder::nccl {

using EventHandle = void*;  // cudaEvent_t
using cuda::kDevice;
using cuda::kUnregistered;
using cuda::MemoryType;

struct Cuda : cuda::Calls {
  // Throws Error(kTransport) that names the call, where `error` is one.
  void check(int error, const char* call) const;
  // Whether the event's work is done. Throws as check() does.
  bool done(EventHandle event) const;
  // How the device sees this memory; unregistered where CUDA does not know it.
  MemoryType type_of(const void* memory) const;
};

// Throws Error(kTransport): no library, no device, or no device of this number.
Cuda open_cuda(const std::vector<std::string>& files, int device);

}  // namespace rudder::nccl

// The calls of the CUDA runtime that Rudder makes, as one table: the only way to a GPU. It is filled from the
// runtime that is linked into rudder._cuda (native/calls.h), or from a library that is opened at run time
// (load_calls): torch's own for the exchange over NCCL, a stand-in of it in tests. So the same host code runs
// over each, and is built where nothing of CUDA is. Its types and numbers are declared here; native/calls.cc
// compares them with CUDA's header. A call returns 0, or the number of an error. Any thread may make any
// call.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "cuda/row_copy.h"

namespace rudder::cuda {

// cudaPointerAttributes; the reserved words came with CUDA 13.
struct PointerAttributes {
  int type = 0;
  int device = 0;
  void* device_pointer = nullptr;
  void* host_pointer = nullptr;
  long reserved[8] = {};
};
enum MemoryType : int { kUnregistered = 0, kHost = 1, kDevice = 2, kManaged = 3 };
enum CallError : int { kNoMemory = 2, kNotReady = 600, kAlreadyRegistered = 712 };
enum Attribute : int {
  kMultiprocessors = 16,
  kComputeMajor = 75,
  kComputeMinor = 76,
  kUsesHostAddresses = 91,
  kRegistersReadOnly = 113
};
inline constexpr unsigned kHostPortable = 1, kHostMapped = 2, kHostReadOnly = 8;
inline constexpr unsigned kStreamNonBlocking = 1, kEventBlockingSync = 1, kEventDisableTiming = 2;
inline constexpr int kMemcpyDefault = 4;
inline constexpr int kNotCapturing = 0, kCaptureRelaxed = 2;
// cudaDeviceProp begins with the GPU's name; what follows, and how much, differs by version.
inline constexpr std::size_t kNameBytes = 256, kPropertiesBytes = 8192;

// Errors after which a process can do nothing more with its GPU, as CUDA's header says of each: what ran has
// ended, and nothing is touched any more. In their order: the runtime is unloaded; memory or a link broke; an
// illegal address, a timeout, a context that is gone, an assert; other ends of a kernel; MPS or another
// device ended it. Any other error tells nothing of work that is under way.
inline constexpr int kLosses[] = {4,   214, 220, 226, 700, 702, 709, 710, 714,
                                  715, 716, 717, 718, 719, 721, 810, 911};
constexpr bool is_loss(int error) {
  for (const int loss : kLosses)
    if (loss == error) return true;
  return false;
}

struct Calls {
  int (*get_device_count)(int* count) = nullptr;
  int (*get_device)(int* device) = nullptr;
  int (*set_device)(int device) = nullptr;
  int (*device_get_attribute)(int* value, int attribute, int device) = nullptr;
  int (*get_device_properties)(void* properties, int device) = nullptr;
  int (*stream_create)(void** stream, unsigned flags) = nullptr;
  int (*stream_destroy)(void* stream) = nullptr;
  int (*stream_is_capturing)(void* stream, int* status) = nullptr;
  int (*stream_wait_event)(void* stream, void* event, unsigned flags) = nullptr;
  int (*event_create)(void** event, unsigned flags) = nullptr;
  int (*event_destroy)(void* event) = nullptr;
  int (*event_record)(void* event, void* stream) = nullptr;
  int (*event_query)(void* event) = nullptr;
  int (*event_synchronize)(void* event) = nullptr;
  int (*malloc)(void** memory, std::size_t bytes) = nullptr;
  int (*free)(void* memory) = nullptr;
  int (*host_alloc)(void** memory, std::size_t bytes, unsigned flags) = nullptr;
  int (*free_host)(void* memory) = nullptr;
  int (*host_register)(void* memory, std::size_t bytes, unsigned flags) = nullptr;
  int (*host_unregister)(void* memory) = nullptr;
  int (*memcpy_async)(void* to, const void* from, std::size_t bytes, int kind, void* stream) = nullptr;
  int (*pointer_get_attributes)(PointerAttributes* attributes, const void* memory) = nullptr;
  // `mode`: in, what the calling thread may do while a CUDA graph is captured; out, what it was.
  int (*thread_exchange_stream_capture_mode)(int* mode) = nullptr;
  int (*get_last_error)() = nullptr;
  const char* (*get_error_string)(int error) = nullptr;
  const char* (*get_error_name)(int error) = nullptr;
  // The driver's cuDevicePrimaryCtxGetState: has this process a context on the GPU? Null without a driver.
  int (*primary_context_state)(int device, unsigned* flags, int* active) = nullptr;
  // Rudder's own kernel; a library has none.
  std::function<int(const RowCopies& job, int multiprocessors, void* stream)> copy_rows;
  std::string file;  // of the library
};

// Of the first of these libraries that can be opened; one that the process has already wins. Throws
// Error(kTransport) where none can, or where it lacks a call.
Calls load_calls(const std::vector<std::string>& files);

// Of the driver that the runtime above it uses; null where there is none.
decltype(Calls::primary_context_state) driver_context_state();

}  // namespace rudder::cuda

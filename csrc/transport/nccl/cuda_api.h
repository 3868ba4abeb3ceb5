// The CUDA runtime as the exchange calls it, found at run time: no CUDA header and no driver is needed to
// build or to import. A runtime that the process has already (torch's) is used.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace rudder::nccl {

using EventHandle = void*;  // cudaEvent_t

// cudaPointerAttributes; the reserved words came with CUDA 13.
struct PointerAttributes {
  int type = 0;
  int device = 0;
  void* device_pointer = nullptr;
  void* host_pointer = nullptr;
  long reserved[8] = {};
};
enum MemoryType : int { kUnregistered = 0, kHost = 1, kDevice = 2, kManaged = 3 };

struct Cuda {
  int (*get_device_count)(int* count) = nullptr;
  int (*set_device)(int device) = nullptr;
  int (*stream_create)(void** stream, unsigned flags) = nullptr;
  int (*stream_destroy)(void* stream) = nullptr;
  int (*stream_wait_event)(void* stream, EventHandle event, unsigned flags) = nullptr;
  int (*event_create)(EventHandle* event, unsigned flags) = nullptr;
  int (*event_destroy)(EventHandle event) = nullptr;
  int (*event_record)(EventHandle event, void* stream) = nullptr;
  int (*event_query)(EventHandle event) = nullptr;
  int (*malloc)(void** memory, std::size_t bytes) = nullptr;
  int (*free)(void* memory) = nullptr;
  int (*host_alloc)(void** memory, std::size_t bytes, unsigned flags) = nullptr;
  int (*free_host)(void* memory) = nullptr;
  int (*memcpy_async)(void* to, const void* from, std::size_t bytes, int kind, void* stream) = nullptr;
  int (*pointer_get_attributes)(PointerAttributes* attributes, const void* memory) = nullptr;
  int (*get_last_error)() = nullptr;
  const char* (*get_error_string)(int error) = nullptr;
  std::string file;

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

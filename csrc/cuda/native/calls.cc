#include "cuda/native/calls.h"

#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/native/gather.h"

namespace rudder::cuda {
namespace {

static_assert(sizeof(PointerAttributes) >= sizeof(cudaPointerAttributes) &&
              offsetof(cudaPointerAttributes, type) == offsetof(PointerAttributes, type));
static_assert(static_cast<int>(kUnregistered) == static_cast<int>(cudaMemoryTypeUnregistered) &&
              static_cast<int>(kHost) == static_cast<int>(cudaMemoryTypeHost) &&
              static_cast<int>(kDevice) == static_cast<int>(cudaMemoryTypeDevice) &&
              static_cast<int>(kManaged) == static_cast<int>(cudaMemoryTypeManaged));
static_assert(static_cast<int>(kNoMemory) == cudaErrorMemoryAllocation &&
              static_cast<int>(kNotReady) == cudaErrorNotReady && cudaSuccess == 0);
static_assert(static_cast<int>(kMultiprocessors) == cudaDevAttrMultiProcessorCount &&
              static_cast<int>(kUsesHostAddresses) == cudaDevAttrCanUseHostPointerForRegisteredMem &&
              static_cast<int>(kRegistersReadOnly) == cudaDevAttrHostRegisterReadOnlySupported);
static_assert(kHostPortable == cudaHostRegisterPortable && kHostPortable == cudaHostAllocPortable &&
              kHostMapped == cudaHostRegisterMapped && kHostMapped == cudaHostAllocMapped &&
              kHostReadOnly == cudaHostRegisterReadOnly);
static_assert(kStreamNonBlocking == cudaStreamNonBlocking && kEventBlockingSync == cudaEventBlockingSync &&
              kEventDisableTiming == cudaEventDisableTiming && kMemcpyDefault == cudaMemcpyDefault);
static_assert(sizeof(cudaDeviceProp) <= kPropertiesBytes && offsetof(cudaDeviceProp, name) == 0 &&
              sizeof(cudaDeviceProp::name) == kNameBytes);

// Handles are pointers and enums are ints, as the table spells them.
template <typename To, typename... From>
void bind(To*& call, cudaError_t (*function)(From...)) {
  call = reinterpret_cast<To*>(reinterpret_cast<void (*)()>(function));
}
template <typename To>
void bind(To*& call, const char* (*function)(cudaError_t)) {
  call = reinterpret_cast<To*>(reinterpret_cast<void (*)()>(function));
}

}  // namespace

Calls native_calls() {
  Calls calls;
  bind(calls.get_device_count, cudaGetDeviceCount);
  bind(calls.get_device, cudaGetDevice);
  bind(calls.set_device, cudaSetDevice);
  bind(calls.device_get_attribute, cudaDeviceGetAttribute);
  bind(calls.get_device_properties, cudaGetDeviceProperties);
  bind(calls.stream_create, cudaStreamCreateWithFlags);
  bind(calls.stream_destroy, cudaStreamDestroy);
  bind(calls.stream_wait_event, cudaStreamWaitEvent);
  bind(calls.event_create, cudaEventCreateWithFlags);
  bind(calls.event_destroy, cudaEventDestroy);
  bind(calls.event_record, cudaEventRecord);
  bind(calls.event_query, cudaEventQuery);
  bind(calls.event_synchronize, cudaEventSynchronize);
  bind(calls.malloc, cudaMalloc);
  bind(calls.free, cudaFree);
  bind(calls.host_alloc, cudaHostAlloc);
  bind(calls.free_host, cudaFreeHost);
  bind(calls.host_register, cudaHostRegister);
  bind(calls.host_unregister, cudaHostUnregister);
  bind(calls.memcpy_async, cudaMemcpyAsync);
  bind(calls.pointer_get_attributes, cudaPointerGetAttributes);
  bind(calls.get_last_error, cudaGetLastError);
  bind(calls.get_error_string, cudaGetErrorString);
  bind(calls.get_error_name, cudaGetErrorName);
  calls.copy_rows = [](const RowCopies& job, int multiprocessors, void* stream) -> int {
    return launch_copy_rows(job, multiprocessors, static_cast<cudaStream_t>(stream));
  };
  return calls;
}

}  // namespace rudder::cuda

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
              static_cast<int>(kNotReady) == cudaErrorNotReady &&
              static_cast<int>(kAlreadyRegistered) == cudaErrorHostMemoryAlreadyRegistered &&
              cudaSuccess == 0);
static_assert(is_loss(cudaErrorCudartUnloading) && is_loss(cudaErrorECCUncorrectable) &&
              is_loss(cudaErrorNvlinkUncorrectable) && is_loss(cudaErrorIllegalAddress) &&
              is_loss(cudaErrorLaunchTimeout) && is_loss(cudaErrorContextIsDestroyed) &&
              is_loss(cudaErrorAssert) && is_loss(cudaErrorHardwareStackError) &&
              is_loss(cudaErrorIllegalInstruction) && is_loss(cudaErrorMisalignedAddress) &&
              is_loss(cudaErrorInvalidAddressSpace) && is_loss(cudaErrorInvalidPc) &&
              is_loss(cudaErrorLaunchFailure) && is_loss(cudaErrorMpsClientTerminated) &&
              is_loss(cudaErrorExternalDevice));
static_assert(!is_loss(cudaErrorNotReady) && !is_loss(cudaErrorStreamCaptureUnsupported) &&
              !is_loss(cudaErrorStreamCaptureImplicit) && !is_loss(cudaErrorCapturedEvent) &&
              !is_loss(cudaErrorInvalidResourceHandle) && !is_loss(cudaErrorMemoryAllocation));
static_assert(static_cast<int>(kNotCapturing) == cudaStreamCaptureStatusNone &&
              static_cast<int>(kCaptureRelaxed) == cudaStreamCaptureModeRelaxed);
static_assert(static_cast<int>(kMultiprocessors) == cudaDevAttrMultiProcessorCount &&
              static_cast<int>(kComputeMajor) == cudaDevAttrComputeCapabilityMajor &&
              static_cast<int>(kComputeMinor) == cudaDevAttrComputeCapabilityMinor &&
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
  bind(calls.stream_is_capturing, cudaStreamIsCapturing);
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
  bind(calls.thread_exchange_stream_capture_mode, cudaThreadExchangeStreamCaptureMode);
  bind(calls.get_last_error, cudaGetLastError);
  bind(calls.get_error_string, cudaGetErrorString);
  bind(calls.get_error_name, cudaGetErrorName);
  calls.primary_context_state = driver_context_state();
  calls.copy_rows = [](const RowCopies& job, int multiprocessors, void* stream) -> int {
    return launch_copy_rows(job, multiprocessors, static_cast<cudaStream_t>(stream));
  };
  return calls;
}

}  // namespace rudder::cuda

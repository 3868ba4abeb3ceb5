#include "cuda/calls.h"

#include "common/error.h"
#include "common/library.h"

namespace rudder::cuda {
namespace {

constexpr const char* kContextState = "cuDevicePrimaryCtxGetState";

}  // namespace

Calls load_calls(const std::vector<std::string>& files) {
  const Library library("the CUDA runtime", files);
  Calls calls;
  calls.file = library.file();
  const auto find = [&](auto& call, const char* name) { library.find(call, name); };
  find(calls.get_device_count, "cudaGetDeviceCount");
  find(calls.get_device, "cudaGetDevice");
  find(calls.set_device, "cudaSetDevice");
  find(calls.device_get_attribute, "cudaDeviceGetAttribute");
  find(calls.get_device_properties, "cudaGetDeviceProperties");
  find(calls.stream_create, "cudaStreamCreateWithFlags");
  find(calls.stream_destroy, "cudaStreamDestroy");
  find(calls.stream_is_capturing, "cudaStreamIsCapturing");
  find(calls.stream_wait_event, "cudaStreamWaitEvent");
  find(calls.event_create, "cudaEventCreateWithFlags");
  find(calls.event_destroy, "cudaEventDestroy");
  find(calls.event_record, "cudaEventRecord");
  find(calls.event_query, "cudaEventQuery");
  find(calls.event_synchronize, "cudaEventSynchronize");
  find(calls.malloc, "cudaMalloc");
  find(calls.free, "cudaFree");
  find(calls.host_alloc, "cudaHostAlloc");
  find(calls.free_host, "cudaFreeHost");
  find(calls.host_register, "cudaHostRegister");
  find(calls.host_unregister, "cudaHostUnregister");
  find(calls.memcpy_async, "cudaMemcpyAsync");
  find(calls.pointer_get_attributes, "cudaPointerGetAttributes");
  find(calls.thread_exchange_stream_capture_mode, "cudaThreadExchangeStreamCaptureMode");
  find(calls.get_last_error, "cudaGetLastError");
  find(calls.get_error_string, "cudaGetErrorString");
  find(calls.get_error_name, "cudaGetErrorName");
  // A stand-in brings a driver of its own.
  library.find_if_there(calls.primary_context_state, kContextState);
  if (calls.primary_context_state == nullptr) calls.primary_context_state = driver_context_state();
  return calls;
}

decltype(Calls::primary_context_state) driver_context_state() {
  decltype(Calls::primary_context_state) call = nullptr;
  try {
    Library("the CUDA driver", {"libcuda.so.1"}).find_if_there(call, kContextState);
  } catch (const Error&) {
    return nullptr;
  }
  return call;
}

}  // namespace rudder::cuda

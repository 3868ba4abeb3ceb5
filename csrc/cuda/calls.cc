#include "cuda/calls.h"

#include "common/library.h"

namespace rudder::cuda {

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
  find(calls.get_last_error, "cudaGetLastError");
  find(calls.get_error_string, "cudaGetErrorString");
  find(calls.get_error_name, "cudaGetErrorName");
  return calls;
}

}  // namespace rudder::cuda

#include "transport/nccl/cuda_api.h"

#include "common/error.h"
#include "transport/nccl/library.h"

namespace rudder::nccl {
namespace {

constexpr int kNotReady = 600;  // cudaErrorNotReady

}  // namespace

void Cuda::check(int error, const char* call) const {
  if (error == 0) return;
  get_last_error();  // an error that stays behind would be found by the next caller of the runtime
  throw Error(ErrorCode::kTransport, std::string(call) + ": " + get_error_string(error));
}

bool Cuda::done(EventHandle event) const {
  const int error = event_query(event);
  if (error == kNotReady) return false;
  check(error, "cudaEventQuery");
  return true;
}

MemoryType Cuda::type_of(const void* memory) const {
  PointerAttributes attributes;
  if (pointer_get_attributes(&attributes, memory) == 0) return static_cast<MemoryType>(attributes.type);
  get_last_error();  // runtimes before CUDA 11 call memory that they do not know an error
  return kUnregistered;
}

Cuda open_cuda(const std::vector<std::string>& files, int device) {
  const Library library("the CUDA runtime", files);
  Cuda cuda;
  cuda.file = library.file();
  library.find(cuda.get_device_count, "cudaGetDeviceCount");
  library.find(cuda.set_device, "cudaSetDevice");
  library.find(cuda.stream_create, "cudaStreamCreateWithFlags");
  library.find(cuda.stream_destroy, "cudaStreamDestroy");
  library.find(cuda.stream_wait_event, "cudaStreamWaitEvent");
  library.find(cuda.event_create, "cudaEventCreateWithFlags");
  library.find(cuda.event_destroy, "cudaEventDestroy");
  library.find(cuda.event_record, "cudaEventRecord");
  library.find(cuda.event_query, "cudaEventQuery");
  library.find(cuda.malloc, "cudaMalloc");
  library.find(cuda.free, "cudaFree");
  library.find(cuda.host_alloc, "cudaHostAlloc");
  library.find(cuda.free_host, "cudaFreeHost");
  library.find(cuda.memcpy_async, "cudaMemcpyAsync");
  library.find(cuda.pointer_get_attributes, "cudaPointerGetAttributes");
  library.find(cuda.get_last_error, "cudaGetLastError");
  library.find(cuda.get_error_string, "cudaGetErrorString");
  int devices = 0;
  cuda.check(cuda.get_device_count(&devices), "no GPU is usable here");
  if (device < 0 || device >= devices)
    throw Error(ErrorCode::kConfig, "device " + std::to_string(device) + " must be one of the " +
                                        std::to_string(devices) + " GPUs here");
  return cuda;
}

}  // namespace rudder::nccl

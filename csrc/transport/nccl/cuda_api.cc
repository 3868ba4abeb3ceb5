#include "transport/nccl/cuda_api.h"

#include "common/error.h"

namespace rudder::nccl {

void Cuda::check(int error, const char* call) const {
  if (error == 0) return;
  get_last_error();  // an error that stays behind would be found by the next caller of the runtime
  throw Error(ErrorCode::kTransport, std::string(call) + ": " + get_error_string(error));
}

bool Cuda::done(EventHandle event) const {
  const int error = event_query(event);
  if (error == cuda::kNotReady) return false;
  check(error, "cudaEventQuery");
  return true;
}

MemoryType Cuda::type_of(const void* memory) const {
  cuda::PointerAttributes attributes;
  if (pointer_get_attributes(&attributes, memory) == 0) return static_cast<MemoryType>(attributes.type);
  get_last_error();  // runtimes before CUDA 11 call memory that they do not know an error
  return kUnregistered;
}

Cuda open_cuda(const std::vector<std::string>& files, int device) {
  Cuda cuda{cuda::load_calls(files)};
  int devices = 0;
  cuda.check(cuda.get_device_count(&devices), "no GPU is usable here");
  if (device < 0 || device >= devices)
    throw Error(ErrorCode::kConfig, "device " + std::to_string(device) + " must be one of the " +
                                        std::to_string(devices) + " GPUs here");
  return cuda;
}

}  // namespace rudder::nccl

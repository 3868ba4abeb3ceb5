// An NVIDIA GPU through the CUDA runtime. Part of rudder_cuda, which is linked by rudder._cuda alone.
#pragma once

#include <memory>
#include <string>

#include "cuda/runtime.h"

namespace rudder::cuda {

// Why no GPU can be used in this process; empty where one can.
std::string why_no_gpu();
// GPUs that this process may use.
int gpu_count();

// The GPU of that number, as this process counts them. Throws Error(kConfig) where it cannot be used.
std::shared_ptr<Runtime> open_gpu(int number);

}  // namespace rudder::cuda

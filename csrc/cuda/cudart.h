// A GPU by the calls of a CUDA runtime: the real one where they are rudder._cuda's.
#pragma once

#include <memory>
#include <string>

#include "cuda/calls.h"
#include "cuda/runtime.h"

namespace rudder::cuda {

// Why no GPU can be used in this process; empty where one can.
std::string why_no_gpu(const Calls& calls);
// The same of one GPU, by its number as this process counts them.
std::string why_not_gpu(const Calls& calls, int number);
// GPUs that this process sees.
int gpu_count(const Calls& calls);

// The GPU of that number. Throws Error(kConfig) where it cannot be used. Gathers
// need calls with a kernel.
std::shared_ptr<Runtime> open_gpu(Calls calls, int number);

}  // namespace rudder::cuda

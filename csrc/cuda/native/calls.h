// The CUDA runtime that is linked into rudder._cuda, with Rudder's kernels. Part of rudder_cuda.
#pragma once

#include "cuda/calls.h"

namespace rudder::cuda {

Calls native_calls();

}  // namespace rudder::cuda

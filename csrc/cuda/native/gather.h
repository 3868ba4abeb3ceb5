// Launches the gather kernels. The one header that kernels and the runtime share.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/row_copy.h"

namespace rudder::cuda {

// On the present device, which has this many multiprocessors. Returns what the launch reported.
cudaError_t launch_copy_rows(const RowCopies& job, int multiprocessors, cudaStream_t stream);

}  // namespace rudder::cuda

// The gather kernels: csrc/cuda/row_copy.h on a GPU, one instance per width of vector and kind of source.
#include <algorithm>

#include "cuda/native/gather.h"

namespace rudder::cuda {
namespace {

// Eight warps: enough groups in a block for small rows, and several blocks fit a multiprocessor.
constexpr unsigned kThreads = 256;
// Blocks per multiprocessor: with four loads a lane, 2,048 threads keep some 128 KiB under way in each, more
// than bandwidth x latency of device memory or of the bus asks for. Rows beyond come in the next turn.
constexpr unsigned kBlocksPerMultiprocessor = 8;

template <typename Vector, From kFrom>
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(RowCopies job, unsigned lanes) {
  const std::size_t thread = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::size_t threads = std::size_t{gridDim.x} * kThreads;
  // lanes is a power of two that divides a warp, so a group never straddles two.
  copy_rows<Vector, kFrom>(job, thread / lanes, threads / lanes, static_cast<unsigned>(thread % lanes),
                           lanes);
}

}  // namespace

cudaError_t launch_copy_rows(const RowCopies& job, int multiprocessors, cudaStream_t stream) {
  if (job.rows == 0) return cudaSuccess;
  const unsigned lanes = lanes_of(job.row_bytes, job.vector);
  const std::size_t wanted = (job.rows * lanes + kThreads - 1) / kThreads;
  const auto most = static_cast<std::size_t>(multiprocessors) * kBlocksPerMultiprocessor;
  const auto blocks = static_cast<unsigned>(std::min(wanted, most));
  dispatch(job, [&]<typename Vector, From kFrom>() {
    copy_rows_kernel<Vector, kFrom><<<blocks, kThreads, 0, stream>>>(job, lanes);
  });
  return cudaGetLastError();
}

}  // namespace rudder::cuda

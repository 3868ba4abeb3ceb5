// What Rudder asks of a GPU, as one interface: all that Rudder does around it (pinning, gathers, the device
// tier) is plain C++ above it, and runs unchanged over the simulated GPU where there is none. The real one is
// cudart.h over the calls of native/calls.h, in a module of its own: the core links no CUDA library.
//
// Thread-safety: every method may be called from any thread. Calls that say so throw Error(kDevice) when the
// GPU reports an error, of this call or of work that was under way.
#pragma once

#include <cstddef>
#include <string>

#include "common/error.h"
#include "cuda/row_copy.h"

namespace rudder::cuda {

// A stream of the caller, as its runtime spells it (cudaStream_t); null is the default stream.
using Stream = void*;
using Event = void*;

// The process has lost its GPU, after an illegal access, say: all that was under way has ended, and nothing
// can be begun any more. An error that is no DeviceLost says nothing of work that is under way.
class DeviceLost : public Error {
 public:
  explicit DeviceLost(const std::string& what, std::source_location where = std::source_location::current())
      : Error(ErrorCode::kDevice, what, where) {}
};

class Runtime {
 public:
  virtual ~Runtime() = default;

  // The GPU's name, for logs and tables.
  virtual std::string name() const = 0;

  // Page-locks [memory, memory + bytes) and maps it for the GPU, at the same addresses. False with a reason
  // where that is refused: a capability, not an error. read_only: the process may not write to it.
  virtual bool host_register(void* memory, std::size_t bytes, bool read_only, std::string& refusal) = 0;
  virtual void host_unregister(void* memory) noexcept = 0;
  // Pinned, mapped memory; throws Error(kOutOfMemory).
  virtual void* host_allocate(std::size_t bytes) = 0;
  virtual void host_free(void* memory) noexcept = 0;

  // Device memory, a plain allocation; null where there is not enough left. Freeing may wait for the GPU.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void free(void* memory) noexcept = 0;

  // Work in the order of the stream; returns at once. Throws Error(kDevice), and Error(kState) on a stream
  // that is being captured into a CUDA graph, which would read the same memory again whenever it is run.
  // REQUIRES memory that stays valid until the work is done; `from` in pinned or device memory.
  virtual void copy(void* to, const void* from, std::size_t bytes, Stream stream) = 0;
  virtual void copy_rows(const RowCopies& job, Stream stream) = 0;

  // Streams of Rudder's own, which do not wait for the default stream.
  virtual Stream make_stream() = 0;
  virtual void destroy(Stream stream) noexcept = 0;

  virtual Event make_event() = 0;
  virtual void destroy_event(Event event) noexcept = 0;
  virtual void record(Event event, Stream stream) = 0;
  // Has the work before the last record() been done? Throws DeviceLost where it failed, and Error(kDevice)
  // where the GPU does not tell.
  virtual bool done(Event event) = 0;
  // Waits for it on the CPU. For the end of a table, never for a step.
  virtual void wait(Event event) = 0;
};

}  // namespace rudder::cuda

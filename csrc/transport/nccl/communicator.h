// One NCCL communicator that never blocks: every call begins something, and settled() says when NCCL has
// taken it in. One thread uses it.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <vector>

#include "transport/nccl/nccl_api.h"

namespace rudder::nccl {

// What NCCL says has gone wrong. It does not know at which rank.
struct NcclFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Communicator {
 public:
  struct Transfer {
    int peer;
    void* memory;
    std::size_t count;  // of elements
  };

  // `api` outlives it.
  explicit Communicator(const Api& api) : api_(api) {}
  ~Communicator() { abort(); }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // max_ctas: processors of the GPU that its kernels may take, at most; 0: NCCL's own choice. Throws
  // NcclFailure.
  void open(const UniqueId& id, int rank, int ranks, int max_ctas);
  // Has NCCL done with what was begun? Work on the stream may still run. Throws NcclFailure.
  bool settled() const;
  // Puts all transfers on the stream, as one group: they progress together. Throws NcclFailure.
  void exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives, DataType type,
                StreamHandle stream);
  // Begins its orderly end; when settled, destroy().
  void finalize();
  void destroy();
  // Stops what runs on the device and frees everything. NCCL may take its time. False where it refuses: it
  // may go on then. Idempotent.
  bool abort() noexcept;

 private:
  void check(int result, const char* call) const;

  const Api& api_;
  CommHandle comm_ = nullptr;
};

}  // namespace rudder::nccl

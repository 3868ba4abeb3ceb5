#include "transport/nccl/communicator.h"

#include <string>
#include <utility>

namespace rudder::nccl {

void Communicator::check(int result, const char* call) const {
  if (result == kSuccess || result == kInProgress) return;
  std::string text = std::string(call) + ": " + api_.get_error_string(result);
  const char* more = api_.get_last_error(comm_);
  if (more != nullptr && *more != '\0') text += std::string(" (") + more + ")";
  throw NcclFailure(text);
}

void Communicator::open(const UniqueId& id, int rank, int ranks, int max_ctas) {
  CommConfig config;
  if (max_ctas > 0) config.max_ctas = max_ctas;
  check(api_.comm_init_rank_config(&comm_, ranks, id, rank, &config), "ncclCommInitRankConfig");
}

bool Communicator::settled() const {
  int state = kSuccess;
  check(api_.comm_get_async_error(comm_, &state), "ncclCommGetAsyncError");
  check(state, "NCCL");
  return state == kSuccess;
}

void Communicator::exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives,
                            DataType type, StreamHandle stream) {
  check(api_.group_start(), "ncclGroupStart");
  int first = kSuccess;
  const auto keep = [&first](int result) {
    if (first == kSuccess && result != kInProgress) first = result;
  };
  for (const Transfer& send : sends) keep(api_.send(send.memory, send.count, type, send.peer, comm_, stream));
  for (const Transfer& receive : receives)
    keep(api_.recv(receive.memory, receive.count, type, receive.peer, comm_, stream));
  const int ended = api_.group_end();  // also where a call before it has failed: the group is open
  check(first, "ncclSend or ncclRecv");
  check(ended, "ncclGroupEnd");
}

void Communicator::finalize() { check(api_.comm_finalize(comm_), "ncclCommFinalize"); }

void Communicator::destroy() { check(api_.comm_destroy(std::exchange(comm_, nullptr)), "ncclCommDestroy"); }

bool Communicator::abort() noexcept {
  if (comm_ == nullptr) return true;
  const int result = api_.comm_abort(std::exchange(comm_, nullptr));
  return result == kSuccess || result == kInProgress;
}

}  // namespace rudder::nccl

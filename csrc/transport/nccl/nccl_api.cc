#include "transport/nccl/nccl_api.h"

#include "common/error.h"
#include "common/library.h"

namespace rudder::nccl {
namespace {

constexpr int kOldest = 21400;

}  // namespace

Api open_nccl(const std::vector<std::string>& files) {
  const Library library("NCCL", files);
  Api api;
  api.file = library.file();
  library.find(api.get_version, "ncclGetVersion");
  if (const int result = api.get_version(&api.version); result != kSuccess)
    throw Error(ErrorCode::kTransport, api.file + " does not say its version");
  if (api.version < kOldest)
    throw Error(ErrorCode::kTransport, api.file + " is NCCL " + std::to_string(api.version) +
                                           ", older than 2.14: pip install nvidia-nccl-cu13");
  library.find(api.get_unique_id, "ncclGetUniqueId");
  library.find(api.comm_init_rank_config, "ncclCommInitRankConfig");
  library.find(api.comm_finalize, "ncclCommFinalize");
  library.find(api.comm_destroy, "ncclCommDestroy");
  library.find(api.comm_abort, "ncclCommAbort");
  library.find(api.comm_get_async_error, "ncclCommGetAsyncError");
  library.find(api.get_error_string, "ncclGetErrorString");
  library.find(api.get_last_error, "ncclGetLastError");
  library.find(api.group_start, "ncclGroupStart");
  library.find(api.group_end, "ncclGroupEnd");
  library.find(api.send, "ncclSend");
  library.find(api.recv, "ncclRecv");
  return api;
}

}  // namespace rudder::nccl

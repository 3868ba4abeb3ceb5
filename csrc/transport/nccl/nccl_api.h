// NCCL as Rudder calls it: a dozen functions of its C interface, found at run time. Their types are declared
// here rather than taken from nccl.h, which compiles only beside a CUDA toolkit: so this is built everywhere,
// and serves every NCCL since 2.14 (the first with communicators that do not block). Where nccl.h is at hand,
// tests/cpp/transport/nccl/nccl_api_test.cc compares the two.
#pragma once

#include <climits>
#include <cstddef>
#include <string>
#include <vector>

struct ncclComm;  // NCCL's own, opaque

namespace rudder::nccl {

using CommHandle = ncclComm*;
using StreamHandle = void*;  // cudaStream_t

struct UniqueId {
  char internal[128];
};

enum Result : int { kSuccess = 0, kInProgress = 7 };

enum DataType : int { kInt8 = 0, kInt64 = 4 };

// The first fields of ncclConfig_t as of NCCL 2.17. `size` and `version` tell a later library which of its
// fields are here; it takes its own defaults for the others.
struct CommConfig {
  std::size_t size = sizeof(CommConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21700;
  int blocking = 0;
  int cga_cluster_size = INT_MIN;  // INT_MIN: NCCL's own choice
  int min_ctas = INT_MIN;
  int max_ctas = INT_MIN;
  const char* net_name = nullptr;
};

struct Api {
  int (*get_version)(int* version) = nullptr;
  int (*get_unique_id)(UniqueId* id) = nullptr;
  int (*comm_init_rank_config)(CommHandle* comm, int ranks, UniqueId id, int rank,
                               CommConfig* config) = nullptr;
  int (*comm_finalize)(CommHandle comm) = nullptr;
  int (*comm_destroy)(CommHandle comm) = nullptr;
  int (*comm_abort)(CommHandle comm) = nullptr;
  int (*comm_get_async_error)(CommHandle comm, int* error) = nullptr;
  const char* (*get_error_string)(int result) = nullptr;
  const char* (*get_last_error)(CommHandle comm) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  int (*send)(const void* from, std::size_t count, int type, int peer, CommHandle comm,
              StreamHandle stream) = nullptr;
  int (*recv)(void* to, std::size_t count, int type, int peer, CommHandle comm,
              StreamHandle stream) = nullptr;
  int version = 0;   // 22703 is 2.27.3
  std::string file;  // where the library lies
};

// Opens the first library of `files` that can be had; it stays open for the life of the process. Throws
// Error(kTransport) with the reasons where none can, or where it is too old.
Api open_nccl(const std::vector<std::string>& files);

}  // namespace rudder::nccl

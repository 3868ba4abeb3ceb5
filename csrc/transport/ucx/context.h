// A UCP context: what UCX may use here, what it can do with that, and the memory that it has registered.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"

namespace rudder::ucx {

struct WorkerConfig {
  std::string devices;  // as UCX_NET_DEVICES; empty: UCX decides
  std::string tls;      // as UCX_TLS; empty: UCX decides
  // One-sided gets also where no hardware does them and UCX plays them by messages, slowly: for tests.
  bool emulate_gets = false;
};

// By which peers read memory; empty where they cannot, and why.
struct MemoryKey {
  std::vector<std::byte> bytes;
  std::string why_not;
};

class Context {
 public:
  // Throws Error(kConfig) for settings that UCX does not know, Error(kTransport) where nothing can be opened.
  explicit Context(const WorkerConfig& config);
  ~Context() { close(); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Null once closed.
  ucp_context_h handle() const { return context_; }
  // What UCX may use between hosts: "tcp/eth0", "rc_mlx5/mlx5_0:1".
  const std::vector<std::string>& transports() const { return transports_; }
  // How many of them are TCP: a worker listens at a port for each.
  std::size_t tcp_devices() const;
  // Whether one of them reads and writes memory by itself, as RDMA does.
  bool offloads() const { return offloads_; }
  // Why there are no one-sided gets; empty where there are.
  const std::string& why_no_gets() const { return why_no_gets_; }
  bool emulates_gets() const { return emulates_; }

  // Registers memory that stays until the context is closed, so that sending from it needs no more
  // registering and peers may read it. It may be mapped for reading alone, where UCX can register such.
  // Not thread-safe.
  MemoryKey expose(std::span<const std::byte> memory);

  // Gives up memory and devices. REQUIRES no worker. Idempotent.
  void close();
  // Leaves UCX's own things behind, for a worker that cannot be destroyed.
  void abandon() { context_ = nullptr; }

 private:
  void open(const WorkerConfig& config, std::uint64_t features);

  ucp_context_h context_ = nullptr;
  std::vector<std::string> transports_;
  bool offloads_ = false;
  const bool emulates_;
  std::string why_no_gets_;
  std::vector<ucp_mem_h> exposed_;
};

// "Connection reset by remote peer" and the like.
std::string text_of(ucs_status_t status);
// Throws Error(code) that says what failed, and UCX's reason.
[[noreturn]] void refuse(ErrorCode code, const std::string& what, ucs_status_t status);
// Of the UCX in this process: "1.22.0".
std::string library_version();

}  // namespace rudder::ucx

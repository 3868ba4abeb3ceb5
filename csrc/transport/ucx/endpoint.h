// A connection to another worker, in the error mode that notices a dead peer, and what it takes to read that
// peer's memory. Lives on the worker's thread.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace rudder::ucx {

class Worker;

class Endpoint {
 public:
  using OnError = std::function<void(const std::string& why)>;
  // `on_error` is called at most once, on the worker's thread, and may not destroy the endpoint. Throws
  // Error(kTransport) for an address that UCX refuses.
  Endpoint(Worker& worker, std::span<const std::byte> address, OnError on_error);
  ~Endpoint() = default;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  ucp_ep_h handle() const { return endpoint_; }
  // The peer's key to its memory, for ucp_rkey_destroy later. REQUIRES that both sides have the same version
  // of UCX, which packs keys as it likes. Throws Error(kTransport) for bytes that are none.
  ucp_rkey_h unpack(std::span<const std::byte> key) const;

 private:
  friend class Worker;
  static void failed(void* self, ucp_ep_h endpoint, ucs_status_t status);

  ucp_ep_h endpoint_ = nullptr;
  OnError on_error_;
};

}  // namespace rudder::ucx

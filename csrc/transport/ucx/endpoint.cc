#include "transport/ucx/endpoint.h"

#include <utility>
#include <vector>

#include "common/error.h"
#include "transport/ucx/context.h"
#include "transport/ucx/worker.h"

namespace rudder::ucx {
namespace {

// Of addresses and keys. Ours have some hundred bytes.
constexpr std::size_t kLongest = 4096;

// UCX reads both without knowing their length. Zeros behind one that was cut end what is read of it: lengths
// within it have one byte, and what has none has less than 4096.
std::vector<std::byte> zeros_behind(std::span<const std::byte> bytes) {
  std::vector<std::byte> padded(bytes.begin(), bytes.end());
  padded.resize(bytes.size() + kLongest);
  return padded;
}

}  // namespace

Endpoint::Endpoint(Worker& worker, std::span<const std::byte> address, OnError on_error)
    : on_error_(std::move(on_error)) {
  // UCX stops the process at an address of another format, which is the low half of the first byte.
  constexpr std::byte kFormat{0x0f};
  if (address.size() < 8 || address.size() > kLongest ||
      (address.front() & kFormat) != (worker.address().front() & kFormat))
    throw Error(ErrorCode::kTransport, std::to_string(address.size()) + " bytes that are no address of UCX");
  const auto padded = zeros_behind(address);
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(padded.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {&Endpoint::failed, this};
  if (const auto status = ucp_ep_create(worker.handle(), &params, &endpoint_); status != UCS_OK)
    refuse(ErrorCode::kTransport, "UCX cannot reach that address", status);
}

void Endpoint::failed(void* self, ucp_ep_h, ucs_status_t status) {
  auto& endpoint = *static_cast<Endpoint*>(self);
  if (endpoint.on_error_) std::exchange(endpoint.on_error_, nullptr)(text_of(status));
}

ucp_rkey_h Endpoint::unpack(std::span<const std::byte> key) const {
  if (key.empty() || key.size() > kLongest)
    throw Error(ErrorCode::kTransport, std::to_string(key.size()) + " bytes that are no key of UCX");
  ucp_rkey_h unpacked = nullptr;
  const auto padded = zeros_behind(key);
  if (const auto status = ucp_ep_rkey_unpack(endpoint_, padded.data(), &unpacked); status != UCS_OK)
    refuse(ErrorCode::kTransport, "UCX cannot use the peer's key to its memory", status);
  return unpacked;
}

}  // namespace rudder::ucx

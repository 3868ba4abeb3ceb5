// Rows by one-sided gets: the client's device reads them out of the server's memory. On the worker's thread.
#include <memory>
#include <span>
#include <string>

#include "transport/ucx/client_impl.h"

namespace rudder {

std::string Ucx::Impl::reach_memory(Peer& peer, TableId table, const wire::Offer& offer) const {
  if (const std::string& why = worker_.context().why_no_gets(); !why.empty()) return why;
  if (peer.remotes.contains(table)) return {};
  if (offer.key.empty()) return "the server offers no key to its memory: " + offer.why_not;
  if (const std::string own = ucx::library_version(); peer.version != own)
    return "the server has UCX " + peer.version + ", this process " + own +
           ", and a key to memory is understood by the same version alone";
  if (std::string why = worker_.why_no_gets(*peer.endpoint); !why.empty()) return why;
  try {
    const ucp_rkey_h key = peer.endpoint->unpack(offer.key);
    peer.remotes.emplace(table, Remote{offer.address, key});
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

void Ucx::Impl::get(Peer& peer, PartId number, Piece& piece, std::size_t rows, const Remote& remote) {
  const Gather& gather = piece.job->gathers[piece.gather];
  const auto wanted = std::span(gather.rows).subspan(piece.next, rows);
  const std::uint64_t id = begin(peer, number, piece, rows);
  Request& request = requests_.at(id);
  // UCX writes to the destination from the first get on.
  request.receiving = true;
  ++request.job->receiving;
  request.gets = 1;  // this function's, so that it does not end before all have begun
  ucs_status_t status = UCS_OK;
  for (std::size_t from = 0, to; from < rows && status == UCS_OK; from = to) {
    for (to = from + 1; to < rows && wanted[to] == wanted[to - 1] + 1;) ++to;
    auto receive = std::make_unique<Receive>(Receive{this, id});
    ucp_request_param_t params{};
    params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    params.cb.send = &Impl::on_got;
    params.user_data = receive.get();
    const ucs_status_ptr_t handle = ucp_get_nbx(
        peer.endpoint->handle(), request.out + from * gather.row_bytes, (to - from) * gather.row_bytes,
        remote.address + static_cast<std::uint64_t>(wanted[from]) * gather.row_bytes, remote.key, &params);
    if (UCS_PTR_IS_PTR(handle)) {
      receive.release();  // NOLINT(bugprone-unused-return-value): on_got deletes it
      ++request.gets;
    } else if (UCS_PTR_IS_ERR(handle)) {
      status = UCS_PTR_STATUS(handle);
      peer.error = ucx::text_of(status);
    }
  }
  got(id, status);
}

void Ucx::Impl::on_got(void* request, ucs_status_t status, void* receive) {
  const std::unique_ptr<Receive> what(static_cast<Receive*>(receive));
  ucp_request_free(request);
  what->self->got(what->request, status);
}

void Ucx::Impl::got(std::uint64_t id, ucs_status_t status) {
  const auto it = requests_.find(id);
  if (it == requests_.end()) return;
  if (status != UCS_OK) it->second.status = status;
  if (--it->second.gets == 0) received(id, it->second.status);
}

}  // namespace rudder

// What the worker's thread does for the feature server: checks requests, has them gathered, sends the rows.
#include <algorithm>
#include <utility>
#include <variant>

#include "transport/ucx/server_impl.h"

namespace rudder {
namespace {

// Below this a chunk goes along with its header; above it the client takes it into its destination without a
// copy, for one more round trip.
constexpr std::size_t kRendezvousBytes = std::size_t{32} << 10;
// Refusals on their way to one client: one that provokes more and reads none is dismissed.
constexpr std::size_t kMaxRefusals = 64;

}  // namespace

ucs_status_t FeatureServer::Impl::on_request(void* self, const void* header, std::size_t header_length,
                                             void* data, std::size_t length,
                                             const ucp_am_recv_param_t* param) {
  auto& me = *static_cast<Impl*>(self);
  ++me.requests_;
  // Row numbers always come along; a rendezvous is somebody else's idea, and UCX drops it when left alone.
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    ++me.refused_;
    return UCS_OK;
  }
  auto parsed = wire::parse_request({static_cast<const std::byte*>(header), header_length},
                                    {static_cast<const std::byte*>(data), length});
  auto* request = std::get_if<wire::Request>(&parsed);
  const auto session = request == nullptr ? me.sessions_.end() : me.sessions_.find(request->header.session);
  // To those who are not admitted nothing is said.
  if (session == me.sessions_.end() || session->second.lost ||
      !wire::same(session->second.token, request->header.token)) {
    ++me.refused_;
    return UCS_OK;
  }
  try {
    me.take(session->second, std::move(*request));
  } catch (const std::exception&) {  // out of memory: nothing may be thrown through UCX
    ++me.refused_;
  }
  return UCS_OK;
}

void FeatureServer::Impl::take(Session& session, wire::Request request) {
  const wire::RequestHeader& h = request.header;
  const auto table = session.tables.find(h.table);
  if (table == session.tables.end())
    return refuse(h.session, h.request, "table " + std::to_string(h.table) + " is not open");
  const Region& region = *table->second;
  if (h.row_bytes != region.row_bytes)
    return refuse(h.session, h.request,
                  "rows of table " + std::to_string(h.table) + " have " + std::to_string(region.row_bytes) +
                      " bytes, not " + std::to_string(h.row_bytes));
  if (std::size_t{h.rows} * h.row_bytes > pool_.chunk_bytes())
    return refuse(h.session, h.request,
                  std::to_string(h.rows) + " rows do not fit a chunk of " +
                      std::to_string(pool_.chunk_bytes()) + " bytes");
  if (pool_.queued(h.session) >= wire::kMaxRequests)
    return refuse(h.session, h.request,
                  "more than " + std::to_string(wire::kMaxRequests) + " requests are waiting");
  if (pool_.queued_rows() + h.rows > wire::kMaxQueuedRows)
    return refuse(h.session, h.request, "the server has too many rows to gather for all its clients");
  pool_.add({.session = h.session,
             .request = h.request,
             .region = table->second,
             .gather = {.table = h.table, .rows = std::move(request.rows), .row_bytes = region.row_bytes},
             .error = {}});
}

auto FeatureServer::Impl::step() -> std::optional<Clock::time_point> {
  for (GatherJob& job : pool_.take_done()) answer(std::move(job));
  std::optional<Clock::time_point> due;
  const auto now = Clock::now();
  for (const Outgoing* outgoing : sending_) {
    const auto it = sessions_.find(outgoing->session);
    if (it == sessions_.end()) continue;
    const auto end = std::max(outgoing->since, it->second.taken) + stall_;
    if (end <= now)
      it->second.lost = true;
    else
      due = std::min(due.value_or(end), end);
  }
  std::vector<SessionId> lost;
  for (const auto& [number, session] : sessions_)
    if (session.lost) lost.push_back(number);
  for (const SessionId number : lost) {
    drop(number);
    const std::lock_guard lock(mutex_);
    dismissed_.push_back(number);
  }
  return due;
}

void FeatureServer::Impl::answer(GatherJob job) {
  const auto it = sessions_.find(job.session);
  if (it == sessions_.end() || it->second.lost) return pool_.give_back(job);
  if (!job.error.empty()) {
    pool_.give_back(job);
    return refuse(job.session, job.request, std::move(job.error));
  }
  auto outgoing = std::make_unique<Outgoing>();
  outgoing->session = job.session;
  outgoing->chunk.rows = static_cast<std::uint32_t>(job.gather.rows.size());
  outgoing->chunk.request = job.request;
  outgoing->chunk.token = it->second.token;
  outgoing->job = std::move(job);
  send(std::move(outgoing));
}

void FeatureServer::Impl::refuse(SessionId number, std::uint64_t request, std::string why) {
  ++refused_;
  Session& session = sessions_.at(number);
  if (++session.refusals > kMaxRefusals) {
    session.lost = true;
    return;
  }
  auto outgoing = std::make_unique<Outgoing>();
  outgoing->session = number;
  outgoing->is_refusal = true;
  outgoing->refusal.request = request;
  outgoing->refusal.token = session.token;
  outgoing->message = std::move(why);
  outgoing->message.resize(std::min(outgoing->message.size(), wire::kMaxMessage));
  send(std::move(outgoing));
}

void FeatureServer::Impl::send(std::unique_ptr<Outgoing> outgoing) {
  outgoing->self = this;
  outgoing->since = Clock::now();
  Session& session = sessions_.at(outgoing->session);
  const std::size_t bytes = outgoing->is_refusal
                                ? outgoing->message.size()
                                : outgoing->job.gather.rows.size() * outgoing->job.gather.row_bytes;
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS |
                        UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  params.flags = bytes < kRendezvousBytes ? UCP_AM_SEND_FLAG_EAGER : UCP_AM_SEND_FLAG_RNDV;
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  params.cb.send = &Impl::on_sent;
  params.user_data = outgoing.get();
  const ucp_ep_h endpoint = session.endpoint->handle();
  const ucs_status_ptr_t handle =
      outgoing->is_refusal
          ? ucp_am_send_nbx(endpoint, wire::kRefusal, &outgoing->refusal, sizeof(outgoing->refusal),
                            outgoing->message.data(), bytes, &params)
          : ucp_am_send_nbx(endpoint, wire::kChunk, &outgoing->chunk, sizeof(outgoing->chunk),
                            outgoing->job.gather.out, bytes, &params);
  if (UCS_PTR_IS_PTR(handle)) {
    sending_.insert(outgoing.release());  // on_sent deletes it
    return;
  }
  if (UCS_PTR_IS_ERR(handle)) session.lost = true;
  sent(*outgoing);
}

void FeatureServer::Impl::on_sent(void* request, ucs_status_t, void* user_data) {
  // What failed is told by the endpoint's error handler.
  const std::unique_ptr<Outgoing> outgoing(static_cast<Outgoing*>(user_data));
  ucp_request_free(request);
  outgoing->self->sending_.erase(outgoing.get());
  outgoing->self->sent(*outgoing);
}

void FeatureServer::Impl::sent(const Outgoing& outgoing) {
  if (const auto it = sessions_.find(outgoing.session); it != sessions_.end()) {
    if (outgoing.is_refusal)
      --it->second.refusals;
    else
      it->second.taken = Clock::now();
  }
  if (outgoing.is_refusal) return;
  rows_ += outgoing.job.gather.rows.size();
  bytes_ += outgoing.job.gather.rows.size() * outgoing.job.gather.row_bytes;
  pool_.give_back(outgoing.job);
}

void FeatureServer::Impl::drop(SessionId number) {
  worker_.admission().revoke(number);
  const auto it = sessions_.find(number);
  if (it == sessions_.end()) return;
  worker_.close(std::move(it->second.endpoint), nullptr);
  sessions_.erase(it);
  pool_.drop(number);
  --open_;
}

}  // namespace rudder

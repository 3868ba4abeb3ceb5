// What the worker's thread does for the `ucx` transport: asks for rows, takes in answers, settles tickets.
#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "transport/ucx/client_impl.h"

namespace rudder {
namespace {

// Ids never repeat within a process, so a late answer finds no other request.
std::atomic<std::uint64_t> request_ids{1};

// A request on its way out: UCX reads header and body until it is sent.
struct Outgoing {
  wire::RequestHeader header;
  std::vector<std::byte> body;
};

void sent(void* request, ucs_status_t, void* outgoing) {
  delete static_cast<Outgoing*>(outgoing);
  ucp_request_free(request);
}

}  // namespace

auto Ucx::Impl::step() -> std::optional<Clock::time_point> {
  for (const Arrival& arrival : std::exchange(arrivals_, {})) receive(arrival);
  std::optional<Clock::time_point> due;
  const auto now = Clock::now();
  for (const auto& [ticket, job] : jobs_) {
    if (job->cancels.empty()) continue;
    if (job->cancel_due > now) {
      due = std::min(due.value_or(job->cancel_due), job->cancel_due);
      continue;
    }
    for (const auto& [id, request] : requests_) {
      if (request.job != job || !request.receiving) continue;
      // One that is being closed already needs no other reason.
      if (Peer& peer = peers_[request.peer]; request.connection == peer.connection)
        peer.error = "stopped in the middle of rows";
    }
    job->cancel_due = now + kCancelTime;
  }
  for (auto& [number, peer] : peers_) {
    if (!peer.error.empty()) lose(number, std::exchange(peer.error, {}), true);
    pump(peer, number);
    if (!peer.error.empty()) due = now;
  }
  return due;
}

std::string Ucx::Impl::refusal(const Gather& gather) const {
  if (const Reach way = reach(gather.peer, gather.table, gather.row_bytes); !way.possible) return way.why_not;
  std::int64_t rows;
  {
    const std::lock_guard lock(mutex_);
    rows = static_cast<std::int64_t>(faces_.at(gather.peer).tables.at(gather.table).rows);
  }
  const auto bad =
      std::ranges::find_if(gather.rows, [&](std::int64_t row) { return row < 0 || row >= rows; });
  if (bad == gather.rows.end()) return {};
  return "row " + std::to_string(*bad) + " is outside the table of " + std::to_string(rows) + " rows of " +
         partition(gather.peer);
}

void Ucx::Impl::add(const JobPtr& job) {
  if (!jobs_.emplace(job->ticket, job).second)
    return job->sink->complete({job->ticket, CompletionStatus::kFailed, "the ticket is in use"});
  for (const Gather& gather : job->gathers)
    if (std::string why = refusal(gather); !why.empty()) return end(job, why);
  for (std::size_t i = 0; i < job->gathers.size(); ++i) {
    if (job->gathers[i].rows.empty()) continue;
    ++job->open;
    peers_[job->gathers[i].peer].queue.push_back({job, i, 0});
  }
  if (job->open == 0) settle(job);
}

void Ucx::Impl::pump(Peer& peer, PartId number) {
  while (!peer.queue.empty() && peer.endpoint && peer.error.empty()) {
    Piece& piece = peer.queue.front();
    if (piece.job->over) {
      peer.queue.pop_front();
      continue;
    }
    const Gather& gather = piece.job->gathers[piece.gather];
    const std::size_t most = std::min<std::size_t>(wire::kMaxRows, config_.chunk_bytes / gather.row_bytes);
    const std::size_t rows = std::min(most, gather.rows.size() - piece.next);
    const std::size_t bytes = rows * gather.row_bytes;
    if (peer.requests >= wire::kMaxRequests ||
        (peer.in_flight > 0 && peer.in_flight + bytes > config_.in_flight_bytes))
      return;
    const auto remote = peer.remotes.find(gather.table);
    if (remote != peer.remotes.end() && by_gets_.contains({number, gather.table}))
      get(peer, number, piece, rows, remote->second);
    else
      ask(peer, number, piece, rows);
    piece.next += rows;
    if (piece.next == gather.rows.size()) {
      --piece.job->open;
      peer.queue.pop_front();
    }
  }
}

std::uint64_t Ucx::Impl::begin(Peer& peer, PartId number, Piece& piece, std::size_t rows) {
  const Gather& gather = piece.job->gathers[piece.gather];
  const std::uint64_t id = request_ids.fetch_add(1, std::memory_order_relaxed);
  const std::size_t bytes = rows * gather.row_bytes;
  requests_.emplace(id, Request{.peer = number,
                                .connection = peer.connection,
                                .job = piece.job,
                                .out = gather.out + piece.next * gather.row_bytes,
                                .rows = static_cast<std::uint32_t>(rows),
                                .bytes = bytes});
  ++piece.job->open;
  ++peer.requests;
  peer.in_flight += bytes;
  in_flight_ += bytes;
  ++asked_;
  return id;
}

void Ucx::Impl::ask(Peer& peer, PartId number, Piece& piece, std::size_t rows) {
  const Gather& gather = piece.job->gathers[piece.gather];
  const std::uint64_t id = begin(peer, number, piece, rows);
  auto outgoing = std::make_unique<Outgoing>();
  outgoing->header.table = gather.table;
  outgoing->header.session = peer.session;
  outgoing->header.token = peer.token;
  outgoing->header.request = id;
  outgoing->header.rows = static_cast<std::uint32_t>(rows);
  outgoing->header.row_bytes = static_cast<std::uint32_t>(gather.row_bytes);
  outgoing->body =
      wire::encode_rows(std::span(gather.rows).subspan(piece.next, rows), outgoing->header.index_bytes);
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  // Row numbers are short, and a rendezvous would cost a round trip before the server can start.
  params.flags = UCP_AM_SEND_FLAG_EAGER;
  params.cb.send = &sent;
  params.user_data = outgoing.get();
  const ucs_status_ptr_t handle =
      ucp_am_send_nbx(peer.endpoint->handle(), wire::kRequest, &outgoing->header, sizeof(outgoing->header),
                      outgoing->body.data(), outgoing->body.size(), &params);
  if (UCS_PTR_IS_ERR(handle))
    peer.error = ucx::text_of(UCS_PTR_STATUS(handle));
  else if (handle != nullptr)
    outgoing.release();  // NOLINT(bugprone-unused-return-value): `sent` deletes it
}

Ucx::Impl::Peer* Ucx::Impl::sender(const Request& request, const wire::Token& token) {
  Peer& peer = peers_[request.peer];
  return peer.connection == request.connection && wire::same(peer.token, token) ? &peer : nullptr;
}

ucs_status_t Ucx::Impl::on_chunk(void* self, const void* header, std::size_t header_length, void* data,
                                 std::size_t length, const ucp_am_recv_param_t* param) {
  auto& me = *static_cast<Impl*>(self);
  const auto parsed = wire::parse_chunk({static_cast<const std::byte*>(header), header_length});
  const auto* chunk = std::get_if<wire::ChunkHeader>(&parsed);
  const auto it = chunk == nullptr ? me.requests_.end() : me.requests_.find(chunk->request);
  if (it == me.requests_.end() || it->second.receiving || me.sender(it->second, chunk->token) == nullptr) {
    ++me.errors_;
    return UCS_OK;
  }
  const Request& request = it->second;
  if (chunk->rows != request.rows || length != request.bytes) {
    me.answered(chunk->request, partition(request.peer) + " answered with " + std::to_string(length) +
                                    " bytes, " + std::to_string(request.bytes) + " expected");
    return UCS_OK;
  }
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    // Received by the step: UCX's own callbacks are not the place to start new work.
    me.arrivals_.push_back({data, chunk->request});
    return UCS_INPROGRESS;
  }
  if (request.job) std::memcpy(request.out, data, length);
  me.answered(chunk->request, {});
  return UCS_OK;
}

ucs_status_t Ucx::Impl::on_refusal(void* self, const void* header, std::size_t header_length, void* data,
                                   std::size_t length, const ucp_am_recv_param_t* param) {
  auto& me = *static_cast<Impl*>(self);
  ++me.errors_;
  const bool here = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0;
  const auto parsed = wire::parse_refusal({static_cast<const std::byte*>(header), header_length},
                                          {static_cast<const std::byte*>(data), here ? length : 0});
  const auto* refusal = std::get_if<wire::Refusal>(&parsed);
  if (refusal == nullptr) return UCS_OK;
  const auto it = me.requests_.find(refusal->header.request);
  if (it == me.requests_.end() || it->second.receiving ||
      me.sender(it->second, refusal->header.token) == nullptr)
    return UCS_OK;
  me.answered(it->first,
              "the feature server of " + partition(it->second.peer) + " refuses: " + refusal->message);
  return UCS_OK;
}

void Ucx::Impl::receive(const Arrival& arrival) {
  const auto it = requests_.find(arrival.request);
  if (it == requests_.end() || !it->second.job || it->second.receiving) {
    ucp_am_data_release(worker_.handle(), arrival.descriptor);
    if (it != requests_.end() && !it->second.receiving) answered(arrival.request, {});
    return;
  }
  Request& request = it->second;
  request.receiving = true;
  ++request.job->receiving;
  auto receive = std::make_unique<Receive>(Receive{this, arrival.request});
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  params.cb.recv_am = &Impl::on_received;
  params.user_data = receive.get();
  const ucs_status_ptr_t handle =
      ucp_am_recv_data_nbx(worker_.handle(), arrival.descriptor, request.out, request.bytes, &params);
  if (UCS_PTR_IS_PTR(handle))
    receive.release();  // NOLINT(bugprone-unused-return-value): on_received deletes it
  else
    received(arrival.request, UCS_PTR_IS_ERR(handle) ? UCS_PTR_STATUS(handle) : UCS_OK);
}

void Ucx::Impl::on_received(void* request, ucs_status_t status, std::size_t, void* receive) {
  const std::unique_ptr<Receive> what(static_cast<Receive*>(receive));
  ucp_request_free(request);
  what->self->received(what->request, status);
}

void Ucx::Impl::received(std::uint64_t id, ucs_status_t status) {
  const auto it = requests_.find(id);
  if (it == requests_.end()) return;
  it->second.receiving = false;
  --it->second.job->receiving;
  answered(id, status == UCS_OK ? std::string{}
                                : "rows of " + partition(it->second.peer) + ": " + ucx::text_of(status));
}

void Ucx::Impl::answered(std::uint64_t id, const std::string& error) {
  auto node = requests_.extract(id);
  const Request& request = node.mapped();
  in_flight_ -= request.bytes;
  if (Peer& peer = peers_[request.peer]; peer.connection == request.connection) {
    peer.in_flight -= request.bytes;
    --peer.requests;
  }
  const JobPtr job = request.job;
  if (!job) return;
  --job->open;
  if (!error.empty()) return job->over ? settle(job) : end(job, error);
  rows_ += request.rows;
  bytes_ += request.bytes;
  if (job->over || job->open == 0) settle(job);
}

void Ucx::Impl::end(const JobPtr& job, const std::string& why) {
  if (!job->over) {
    job->over = true;
    job->why = why;
    for (auto& [id, request] : requests_)
      if (request.job == job && !request.receiving) request.job = nullptr;
  }
  settle(job);
}

void Ucx::Impl::settle(const JobPtr& job) {
  if (job->receiving > 0) return;
  jobs_.erase(job->ticket);
  const auto sink = std::exchange(job->sink, nullptr);
  const auto cancels = std::exchange(job->cancels, {});
  for (const Latch& latch : cancels) latch->count_down();
  if (!sink || !cancels.empty()) return;
  if (!job->over && job->open > 0) job->why = "the ucx transport was closed";
  const auto status = job->why.empty() ? CompletionStatus::kDone : CompletionStatus::kFailed;
  sink->complete({job->ticket, status, job->why});
}

void Ucx::Impl::lose(PartId number, const std::string& why, bool tell) {
  Peer& peer = peers_[number];
  peer.error.clear();  // of this connection, not of the next
  if (!peer.endpoint) return;
  {
    const std::lock_guard lock(mutex_);
    faces_[number] = {false, "was lost: " + why, {}};
  }
  const std::uint64_t connection = peer.connection;
  // Rows that are arriving: UCX reports each, or has let go of the destination when the endpoint is closed.
  worker_.close(std::move(peer.endpoint), [this, connection, remotes = std::exchange(peer.remotes, {})] {
    for (const auto& [table, remote] : remotes) ucp_rkey_destroy(remote.key);
    std::vector<std::uint64_t> left;
    for (const auto& [id, request] : requests_)
      if (request.connection == connection) left.push_back(id);
    for (const std::uint64_t id : left) received(id, UCS_ERR_CANCELED);
  });
  peer.connection = 0;
  peer.in_flight = peer.requests = 0;
  const std::string message =
      "the connection to the feature server of " + partition(number) + " was lost: " + why;
  std::vector<std::uint64_t> unanswered;
  for (const auto& [id, request] : requests_)
    if (request.connection == connection && !request.receiving) unanswered.push_back(id);
  for (const std::uint64_t id : unanswered) answered(id, message);
  for (const Piece& piece : std::exchange(peer.queue, {}))
    if (!piece.job->over) end(piece.job, message);
  if (!tell) return;
  const std::lock_guard lock(mutex_);
  losses_.push_back({number, peer.session, why});
  lost_.notify_all();
}

}  // namespace rudder

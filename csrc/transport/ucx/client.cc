#include "transport/ucx/client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <variant>

#include "common/error.h"

namespace rudder {
namespace {

using Clock = ucx::Worker::Clock;
using Latch = std::shared_ptr<std::promise<void>>;

// How long a cancelled chunk that is arriving may take to end.
constexpr auto kCancelTime = std::chrono::seconds(1);

// Ids never repeat within a process, so a late answer finds no other request.
std::atomic<std::uint64_t> request_ids{1};

std::string partition(PartId peer) { return "partition " + std::to_string(value(peer)); }

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

// All but `mutex_`'s state is owned by the worker's thread.
class Ucx::Impl {
 public:
  explicit Impl(Config config) : config_(std::move(config)), worker_(config_.worker) {
    if (config_.chunk_bytes == 0 || config_.in_flight_bytes < config_.chunk_bytes)
      throw Error(ErrorCode::kConfig,
                  "bytes in flight must hold at least one chunk of " + std::to_string(config_.chunk_bytes));
    worker_.on_message(wire::kChunk, &Impl::on_chunk, this);
    worker_.on_message(wire::kRefusal, &Impl::on_refusal, this);
    worker_.start([this] { return step(); });
  }
  ~Impl() { close(); }

  const std::vector<std::byte>& address() const { return worker_.address(); }
  void connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
               const wire::Token& token);
  void open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes);
  void disconnect(PartId peer, const std::string& why);
  bool connected(PartId peer) const;
  Stats stats() const;
  Reach reach(PartId peer, TableId table, std::size_t row_bytes) const;
  void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink);
  void cancel(Ticket ticket);
  void close();

 private:
  // A ticket. It ends when all its rows are here, or when it has failed or was cancelled and no chunk of it
  // is arriving any more: only then may its destination go away.
  struct Job {
    Ticket ticket = 0;
    std::vector<Gather> gathers;
    std::shared_ptr<CompletionSink> sink;
    std::size_t open = 0;       // pieces in queues + requests without an answer
    std::size_t receiving = 0;  // chunks that UCX is writing to the destination
    bool over = false;          // failed or cancelled
    std::string why;
    std::vector<Latch> cancels;
    Clock::time_point cancel_due{};
  };
  using JobPtr = std::shared_ptr<Job>;
  // What is left to ask for of one gather.
  struct Piece {
    JobPtr job;
    std::size_t gather = 0;
    std::size_t next = 0;
  };
  struct Request {
    PartId peer{};
    std::uint64_t connection = 0;
    JobPtr job;  // null: its answer is no longer wanted
    std::byte* out = nullptr;
    std::uint32_t rows = 0;
    std::size_t bytes = 0;
    bool receiving = false;
  };
  struct Peer {
    std::unique_ptr<ucx::Endpoint> endpoint;  // null: not connected
    std::uint64_t connection = 0;
    std::uint64_t session = 0;
    wire::Token token{};
    std::size_t in_flight = 0;  // bytes
    std::size_t requests = 0;
    std::deque<Piece> queue;
    std::string error;  // why the connection must be given up, found while UCX was being progressed
  };
  struct Arrival {
    void* descriptor;
    std::uint64_t request;
  };
  struct Receive {
    Impl* self;
    std::uint64_t request;
  };
  // What other threads may see of a peer.
  struct Face {
    bool connected = false;
    std::string why_not = "is not connected";
    std::map<TableId, std::pair<std::size_t, std::size_t>> tables;  // rows, row bytes
  };

  static ucs_status_t on_chunk(void* self, const void* header, std::size_t header_length, void* data,
                               std::size_t length, const ucp_am_recv_param_t* param);
  static ucs_status_t on_refusal(void* self, const void* header, std::size_t header_length, void* data,
                                 std::size_t length, const ucp_am_recv_param_t* param);
  static void on_received(void* request, ucs_status_t status, std::size_t length, void* receive);

  std::optional<Clock::time_point> step();
  void receive(const Arrival& arrival);
  void received(std::uint64_t id, ucs_status_t status);
  void answered(std::uint64_t id, const std::string& error);
  void add(const JobPtr& job);
  void pump(Peer& peer, PartId number);
  void ask(Peer& peer, PartId number, Piece& piece, std::size_t rows);
  void end(const JobPtr& job, const std::string& why);
  void settle(const JobPtr& job);
  void lose(PartId number, const std::string& why, bool tell);
  std::string refusal(const Gather& gather) const;
  // The peer's live connection, where the token of a message is that connection's; else null.
  Peer* sender(const Request& request, const wire::Token& token);

  const Config config_;
  std::map<PartId, Peer> peers_;
  std::unordered_map<Ticket, JobPtr> jobs_;
  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<Arrival> arrivals_;
  std::uint64_t connections_ = 0;
  std::atomic<std::uint64_t> asked_{0}, rows_{0}, bytes_{0}, errors_{0}, in_flight_{0};

  mutable std::mutex mutex_;
  std::map<PartId, Face> faces_;
  bool closed_ = false;
  std::mutex ending_;  // one close at a time settles what is left

  ucx::Worker worker_;  // the last member: its thread uses the others
};

// -- on any thread

void Ucx::Impl::connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
                        const wire::Token& token) {
  const bool ran = worker_.call([&] {
    lose(peer, "replaced by a new connection", false);
    Peer& it = peers_[peer];
    it.endpoint = std::make_unique<ucx::Endpoint>(
        worker_, address, [this, peer](const std::string& why) { peers_[peer].error = why; });
    it.connection = ++connections_;
    it.session = session;
    it.token = token;
    const std::lock_guard lock(mutex_);
    faces_[peer] = {true, {}, {}};
  });
  if (!ran) throw Error(ErrorCode::kClosed, "the ucx transport is closed");
}

void Ucx::Impl::open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes) {
  if (row_bytes == 0 || row_bytes > config_.chunk_bytes)
    throw Error(ErrorCode::kConfig, "rows of " + std::to_string(row_bytes) + " bytes do not fit chunks of " +
                                        std::to_string(config_.chunk_bytes));
  const std::lock_guard lock(mutex_);
  const auto it = faces_.find(peer);
  if (it == faces_.end() || !it->second.connected)
    throw Error(ErrorCode::kState, partition(peer) + " is not connected");
  it->second.tables[table] = {rows, row_bytes};
}

void Ucx::Impl::disconnect(PartId peer, const std::string& why) {
  worker_.call([&] { lose(peer, why, false); });
}

bool Ucx::Impl::connected(PartId peer) const {
  const std::lock_guard lock(mutex_);
  const auto it = faces_.find(peer);
  return it != faces_.end() && it->second.connected;
}

Ucx::Stats Ucx::Impl::stats() const {
  return {asked_.load(), rows_.load(), bytes_.load(), errors_.load(), in_flight_.load()};
}

Transport::Reach Ucx::Impl::reach(PartId peer, TableId table, std::size_t row_bytes) const {
  const std::lock_guard lock(mutex_);
  if (closed_) return {false, "the ucx transport is closed"};
  const auto face = faces_.find(peer);
  if (face == faces_.end()) return {false, "the feature server of " + partition(peer) + " is not connected"};
  if (!face->second.connected)
    return {false, "the feature server of " + partition(peer) + " " + face->second.why_not};
  const auto it = face->second.tables.find(table);
  if (it == face->second.tables.end())
    return {false, "the feature server of " + partition(peer) + " has not opened the table"};
  if (it->second.second != row_bytes)
    return {false, "rows of " + std::to_string(it->second.second) + " bytes there, " +
                       std::to_string(row_bytes) + " here"};
  return {};
}

void Ucx::Impl::submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) {
  const auto job = std::make_shared<Job>();
  job->ticket = ticket;
  job->gathers = std::move(gathers);
  job->sink = std::move(sink);
  if (!worker_.post([this, job] { add(job); }))
    job->sink->complete({ticket, CompletionStatus::kFailed, "the ucx transport is closed"});
}

void Ucx::Impl::cancel(Ticket ticket) {
  const Latch latch = std::make_shared<std::promise<void>>();
  const auto ended = latch->get_future();
  const bool posted = worker_.post([this, ticket, latch] {
    const auto it = jobs_.find(ticket);
    if (it == jobs_.end()) return latch->set_value();
    const JobPtr job = it->second;
    job->cancels.push_back(latch);
    job->cancel_due = Clock::now() + kCancelTime;
    end(job, {});
  });
  if (posted)
    ended.wait();
  else
    worker_.stop(nullptr);  // when it has stopped, nothing is written any more
}

void Ucx::Impl::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  worker_.stop([this] {
    for (auto& [number, peer] : peers_) lose(number, "is closed", false);
  });
  // The thread has ended: nothing is written any more, whatever UCX still holds.
  const std::lock_guard ending(ending_);
  for (auto& [ticket, job] : std::exchange(jobs_, {})) {
    job->receiving = 0;
    settle(job);
  }
}

// -- on the worker's thread

std::optional<Clock::time_point> Ucx::Impl::step() {
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
    rows = static_cast<std::int64_t>(faces_.at(gather.peer).tables.at(gather.table).first);
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
    ask(peer, number, piece, rows);
    piece.next += rows;
    if (piece.next == gather.rows.size()) {
      --piece.job->open;
      peer.queue.pop_front();
    }
  }
}

void Ucx::Impl::ask(Peer& peer, PartId number, Piece& piece, std::size_t rows) {
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
  for (const Latch& latch : cancels) latch->set_value();
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
  worker_.close(std::move(peer.endpoint), [this, connection] {
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
  if (tell && config_.on_lost) config_.on_lost(number, why);
}

// -- the face

Ucx::Ucx(Config config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Ucx::~Ucx() = default;
const std::vector<std::byte>& Ucx::address() const { return impl_->address(); }
void Ucx::connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
                  const wire::Token& token) {
  impl_->connect(peer, address, session, token);
}
void Ucx::open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes) {
  impl_->open(peer, table, rows, row_bytes);
}
void Ucx::disconnect(PartId peer, const std::string& why) { impl_->disconnect(peer, why); }
bool Ucx::connected(PartId peer) const { return impl_->connected(peer); }
Ucx::Stats Ucx::stats() const { return impl_->stats(); }
Transport::Reach Ucx::reach(PartId peer, TableId table, std::size_t row_bytes) const {
  return impl_->reach(peer, table, row_bytes);
}
void Ucx::submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) {
  impl_->submit(ticket, std::move(gathers), std::move(sink));
}
void Ucx::cancel(Ticket ticket) { impl_->cancel(ticket); }
void Ucx::close() { impl_->close(); }

}  // namespace rudder

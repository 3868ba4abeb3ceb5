#include "transport/ucx/server.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <variant>

#include "common/error.h"
#include "memory/segment.h"

namespace rudder {
namespace {

using Clock = ucx::Worker::Clock;
using ucx::GatherJob;
using ucx::Region;

// Below this a chunk goes along with its header; above it the client takes it into its destination without a
// copy, for one more round trip.
constexpr std::size_t kRendezvousBytes = std::size_t{32} << 10;
// Refusals on their way to one client: one that provokes more and reads none is dismissed.
constexpr std::size_t kMaxRefusals = 64;

}  // namespace

// All but the regions and what `mutex_` guards is owned by the worker's thread.
class FeatureServer::Impl {
 public:
  explicit Impl(const Config& config)
      : stall_(config.stall),
        pool_(config.threads, config.staging_bytes, config.chunk_bytes, [this] { worker_.wake(); }),
        worker_(config.worker) {
    if (config.stall <= std::chrono::nanoseconds(0))
      throw Error(ErrorCode::kConfig, "the time until a client counts as stalled must be positive");
    // Once, instead of each chunk when it is first sent. Where nothing registers memory it changes nothing.
    if (worker_.offloads()) worker_.expose(pool_.memory());
    worker_.on_message(wire::kRequest, &Impl::on_request, this);
    worker_.start([this] { return step(); });
  }
  ~Impl() { close(); }

  const std::vector<std::byte>& address() const { return worker_.address(); }
  ucx::Admission& admission() { return worker_.admission(); }
  RegionId expose(const std::string& segment, std::size_t rows, std::size_t row_bytes, std::size_t offset);
  RegionId expose(Region region);
  void admit(SessionId session, const wire::Token& token, std::span<const std::byte> address);
  void grant(SessionId session, TableId table, RegionId region);
  wire::Offer offer(RegionId region);
  void dismiss(SessionId session);
  std::vector<SessionId> dismissed();
  Stats stats() const;
  void close();

 private:
  struct Session {
    wire::Token token{};
    std::unique_ptr<ucx::Endpoint> endpoint;
    std::map<TableId, std::shared_ptr<const Region>> tables;
    std::size_t refusals = 0;   // on their way
    Clock::time_point taken{};  // when the client last took something
    bool lost = false;
  };
  // A chunk or a refusal on its way: UCX reads it until it is sent.
  struct Outgoing {
    Impl* self;
    SessionId session;
    Clock::time_point since;
    wire::ChunkHeader chunk;
    GatherJob job;
    wire::RefusalHeader refusal;
    std::string message;
    bool is_refusal = false;
  };

  static ucs_status_t on_request(void* self, const void* header, std::size_t header_length, void* data,
                                 std::size_t length, const ucp_am_recv_param_t* param);
  static void on_sent(void* request, ucs_status_t status, void* outgoing);

  std::shared_ptr<const Region> at(RegionId region) const;
  std::optional<Clock::time_point> step();
  void take(Session& session, wire::Request request);
  void answer(GatherJob job);
  void refuse(SessionId session, std::uint64_t request, std::string why);
  void send(std::unique_ptr<Outgoing> outgoing);
  void sent(const Outgoing& outgoing);
  void drop(SessionId session);

  const std::chrono::nanoseconds stall_;
  std::map<SessionId, Session> sessions_;
  std::set<Outgoing*> sending_;
  std::atomic<std::uint64_t> requests_{0}, rows_{0}, bytes_{0}, refused_{0}, open_{0};

  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::size_t, std::size_t, std::size_t>, RegionId> by_segment_;
  std::vector<std::shared_ptr<const Region>> regions_;
  std::map<RegionId, wire::Offer> offers_;  // of the worker's thread
  std::vector<SessionId> dismissed_;
  std::mutex ending_;

  ucx::GatherPool pool_;  // outlives the worker, which sends from its chunks
  ucx::Worker worker_;
};

FeatureServer::RegionId FeatureServer::Impl::expose(Region region) {
  table_bytes(region.count, region.row_bytes);
  if (region.row_bytes > pool_.chunk_bytes())
    throw Error(ErrorCode::kConfig, "rows of " + std::to_string(region.row_bytes) +
                                        " bytes do not fit chunks of " + std::to_string(pool_.chunk_bytes()));
  const std::lock_guard lock(mutex_);
  regions_.push_back(std::make_shared<const Region>(std::move(region)));
  return static_cast<RegionId>(regions_.size() - 1);
}

FeatureServer::RegionId FeatureServer::Impl::expose(const std::string& segment, std::size_t rows,
                                                    std::size_t row_bytes, std::size_t offset) {
  const std::tuple key(segment, rows, row_bytes, offset);
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = by_segment_.find(key); it != by_segment_.end()) return it->second;
  }
  // Devices register only what could be written, though it never is.
  const auto access = worker_.why_no_gets().empty() ? Segment::Access::kWrite : Segment::Access::kRead;
  const auto mapped = std::make_shared<const Segment>(segment, offset, table_bytes(rows, row_bytes), access);
  const RegionId region = expose({mapped, mapped->data(), rows, row_bytes});
  const std::lock_guard lock(mutex_);
  return by_segment_.emplace(key, region).first->second;
}

void FeatureServer::Impl::admit(SessionId session, const wire::Token& token,
                                std::span<const std::byte> address) {
  const bool ran = worker_.call([&] {
    if (sessions_.contains(session))
      throw Error(ErrorCode::kConfig, "session " + std::to_string(session) + " is open already");
    auto endpoint = std::make_unique<ucx::Endpoint>(
        worker_, address, [this, session](const std::string&) { sessions_.at(session).lost = true; });
    sessions_[session] = {.token = token, .endpoint = std::move(endpoint), .tables = {}};
    pool_.open(session);
    ++open_;
  });
  if (!ran) throw Error(ErrorCode::kClosed, "the feature server is closed");
}

std::shared_ptr<const Region> FeatureServer::Impl::at(RegionId region) const {
  const std::lock_guard lock(mutex_);
  if (region >= regions_.size())
    throw Error(ErrorCode::kConfig, "there is no region " + std::to_string(region));
  return regions_[region];
}

wire::Offer FeatureServer::Impl::offer(RegionId region) {
  const auto rows = at(region);
  if (!worker_.why_no_gets().empty()) return {};
  wire::Offer offered;
  const bool ran = worker_.call([&] {
    auto it = offers_.find(region);
    if (it == offers_.end())
      it = offers_
               .emplace(region, wire::Offer{reinterpret_cast<std::uintptr_t>(rows->rows),
                                            worker_.expose({rows->rows, rows->count * rows->row_bytes})})
               .first;
    offered = it->second;
  });
  if (!ran) throw Error(ErrorCode::kClosed, "the feature server is closed");
  return offered;
}

void FeatureServer::Impl::grant(SessionId session, TableId table, RegionId region) {
  const auto rows = at(region);
  const bool ran = worker_.call([&] {
    const auto it = sessions_.find(session);
    if (it == sessions_.end())
      throw Error(ErrorCode::kConfig, "there is no session " + std::to_string(session));
    it->second.tables[table] = rows;
  });
  if (!ran) throw Error(ErrorCode::kClosed, "the feature server is closed");
}

void FeatureServer::Impl::dismiss(SessionId session) {
  worker_.call([&] { drop(session); });
}

std::vector<FeatureServer::SessionId> FeatureServer::Impl::dismissed() {
  const std::lock_guard lock(mutex_);
  return std::exchange(dismissed_, {});
}

FeatureServer::Stats FeatureServer::Impl::stats() const {
  return {requests_.load(), rows_.load(), bytes_.load(),
          refused_.load(),  open_.load(), pool_.chunks_in_use() * pool_.chunk_bytes()};
}

void FeatureServer::Impl::close() {
  worker_.stop([this] {
    while (!sessions_.empty()) drop(sessions_.begin()->first);
  });
  const std::lock_guard lock(ending_);
  pool_.stop();  // its threads wake the worker, which must still be there
}

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

std::optional<Clock::time_point> FeatureServer::Impl::step() {
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

// -- the face

FeatureServer::FeatureServer(const Config& config) : impl_(std::make_unique<Impl>(config)) {}
FeatureServer::~FeatureServer() = default;
const std::vector<std::byte>& FeatureServer::address() const { return impl_->address(); }
FeatureServer::RegionId FeatureServer::expose(const std::string& segment, std::size_t rows,
                                              std::size_t row_bytes, std::size_t offset) {
  return impl_->expose(segment, rows, row_bytes, offset);
}
FeatureServer::RegionId FeatureServer::expose(const std::byte* rows, std::size_t count,
                                              std::size_t row_bytes) {
  return impl_->expose({nullptr, rows, count, row_bytes});
}
std::vector<std::string> FeatureServer::hosts() const { return impl_->admission().hosts(); }
const std::string& FeatureServer::why_open() const { return impl_->admission().why_open(); }
void FeatureServer::let_in(SessionId session, std::span<const std::string> hosts) {
  impl_->admission().admit(session, hosts);
}
void FeatureServer::admit(SessionId session, const wire::Token& token, std::span<const std::byte> address) {
  impl_->admit(session, token, address);
}
void FeatureServer::grant(SessionId session, TableId table, RegionId region) {
  impl_->grant(session, table, region);
}
wire::Offer FeatureServer::offer(RegionId region) { return impl_->offer(region); }
void FeatureServer::dismiss(SessionId session) { impl_->dismiss(session); }
std::vector<FeatureServer::SessionId> FeatureServer::dismissed() { return impl_->dismissed(); }
FeatureServer::Stats FeatureServer::stats() const { return impl_->stats(); }
void FeatureServer::close() { impl_->close(); }

}  // namespace rudder

#include "transport/ucx/client.h"

#include <utility>

#include "common/error.h"
#include "transport/ucx/client_impl.h"

namespace rudder {

// -- on any thread

void Ucx::Impl::connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
                        const wire::Token& token, const std::string& version, const std::string& place) {
  const bool ran = worker_.call([&] {
    lose(peer, "replaced by a new connection", false);
    Peer& it = peers_[peer];
    it.endpoint = std::make_unique<ucx::Endpoint>(
        worker_, address, [this, peer](const std::string& why) { peers_[peer].error = why; });
    it.connection = ++connections_;
    it.session = session;
    it.token = token;
    it.version = version;
    const std::lock_guard lock(mutex_);
    faces_[peer] = {true, {}, {}};
    places_[peer] = place;
  });
  if (!ran) throw Error(ErrorCode::kClosed, "the ucx transport is closed");
}

void Ucx::Impl::open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes,
                     const wire::Offer& offer) {
  if (row_bytes == 0 || row_bytes > config_.chunk_bytes)
    throw Error(ErrorCode::kConfig, "rows of " + std::to_string(row_bytes) + " bytes do not fit chunks of " +
                                        std::to_string(config_.chunk_bytes));
  const auto not_connected = [&] { return Error(ErrorCode::kState, partition(peer) + " is not connected"); };
  std::string why_no_gets;
  const bool ran = worker_.call([&] {
    Peer& it = peers_[peer];
    if (!it.endpoint) throw not_connected();
    why_no_gets = reach_memory(it, table, offer);
  });
  const std::lock_guard lock(mutex_);
  const auto it = faces_.find(peer);
  if (!ran || it == faces_.end() || !it->second.connected) throw not_connected();
  it->second.tables[table] = {rows, row_bytes, why_no_gets};
}

std::string Ucx::Impl::why_no_gets(PartId peer, TableId table) const {
  const std::lock_guard lock(mutex_);
  const auto face = faces_.find(peer);
  if (face == faces_.end() || !face->second.tables.contains(table)) return "the table is not open";
  return face->second.tables.at(table).why_no_gets;
}

void Ucx::Impl::use_gets(PartId peer, TableId table, bool on) {
  worker_.call([&] {
    if (on)
      by_gets_.emplace(peer, table);
    else
      by_gets_.erase({peer, table});
  });
}

void Ucx::Impl::disconnect(PartId peer, const std::string& why) {
  worker_.admission().revoke(static_cast<std::uint64_t>(value(peer)));
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

std::string Ucx::Impl::place(PartId peer) const {
  const std::lock_guard lock(mutex_);
  const auto it = places_.find(peer);
  return it == places_.end() ? std::string{} : it->second;
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
  if (it->second.row_bytes != row_bytes)
    return {false, "rows of " + std::to_string(it->second.row_bytes) + " bytes there, " +
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

void Ucx::Impl::cancel_all(std::span<const Ticket> tickets) {
  const auto latch = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(tickets.size()));
  const bool posted = worker_.post([this, latch, all = std::vector(tickets.begin(), tickets.end())] {
    for (const Ticket ticket : all) {
      const auto it = jobs_.find(ticket);
      if (it == jobs_.end()) {
        latch->count_down();
        continue;
      }
      const JobPtr job = it->second;
      job->cancels.push_back(latch);
      job->cancel_due = Clock::now() + kCancelTime;
      end(job, {});
    }
  });
  if (posted)
    latch->wait();
  else
    worker_.stop(nullptr);  // when it has stopped, nothing is written any more
}

std::optional<Ucx::Loss> Ucx::Impl::next_loss() {
  std::unique_lock lock(mutex_);
  lost_.wait(lock, [this] { return closed_ || !losses_.empty(); });
  if (losses_.empty()) return {};
  Loss loss = std::move(losses_.front());
  losses_.pop_front();
  return loss;
}

void Ucx::Impl::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    lost_.notify_all();
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

// -- the face

Ucx::Ucx(Config config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Ucx::~Ucx() = default;
const std::vector<std::byte>& Ucx::address() const { return impl_->address(); }
const std::vector<std::string>& Ucx::hosts() const { return impl_->admission().hosts(); }
const std::string& Ucx::why_open() const { return impl_->admission().why_open(); }
void Ucx::let_in(PartId peer, std::span<const std::string> hosts) {
  impl_->admission().admit(static_cast<std::uint64_t>(value(peer)), hosts);
}
void Ucx::connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
                  const wire::Token& token, const std::string& version, const std::string& place) {
  impl_->connect(peer, address, session, token, version, place);
}
void Ucx::open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes,
               const wire::Offer& offer) {
  impl_->open(peer, table, rows, row_bytes, offer);
}
std::string Ucx::why_no_gets(PartId peer, TableId table) const { return impl_->why_no_gets(peer, table); }
void Ucx::use_gets(PartId peer, TableId table, bool on) { impl_->use_gets(peer, table, on); }
void Ucx::disconnect(PartId peer, const std::string& why) { impl_->disconnect(peer, why); }
bool Ucx::connected(PartId peer) const { return impl_->connected(peer); }
Ucx::Stats Ucx::stats() const { return impl_->stats(); }
std::string Ucx::place(PartId peer) const { return impl_->place(peer); }
Transport::Reach Ucx::reach(PartId peer, TableId table, std::size_t row_bytes) const {
  return impl_->reach(peer, table, row_bytes);
}
void Ucx::submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) {
  impl_->submit(ticket, std::move(gathers), std::move(sink));
}
void Ucx::cancel_all(std::span<const Ticket> tickets) { impl_->cancel_all(tickets); }
std::optional<Ucx::Loss> Ucx::next_loss() { return impl_->next_loss(); }
void Ucx::close() { impl_->close(); }

}  // namespace rudder

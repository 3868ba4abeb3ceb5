#include "transport/ucx/server.h"

#include <utility>

#include "memory/segment.h"
#include "transport/ucx/server_impl.h"

namespace rudder {

// -- on any thread

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
  const auto mapped = std::make_shared<const Segment>(segment, offset, table_bytes(rows, row_bytes));
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

auto FeatureServer::Impl::at(RegionId region) const -> std::shared_ptr<const Region> {
  const std::lock_guard lock(mutex_);
  if (region >= regions_.size())
    throw Error(ErrorCode::kConfig, "there is no region " + std::to_string(region));
  return regions_[region];
}

wire::Offer FeatureServer::Impl::offer(RegionId region) {
  const auto rows = at(region);
  if (const std::string& why = worker_.context().why_no_gets(); !why.empty()) return {0, {}, why};
  wire::Offer offered;
  const bool ran = worker_.call([&] {
    auto it = offers_.find(region);
    if (it == offers_.end()) {
      ucx::MemoryKey key = worker_.expose({rows->rows, rows->count * rows->row_bytes});
      wire::Offer made{reinterpret_cast<std::uintptr_t>(rows->rows), std::move(key.bytes),
                       std::move(key.why_not)};
      it = offers_.emplace(region, std::move(made)).first;
    }
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
const std::vector<std::string>& FeatureServer::hosts() const { return impl_->admission().hosts(); }
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

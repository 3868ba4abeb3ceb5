// The inside of the feature server, for its source files alone.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "common/error.h"
#include "transport/ucx/server.h"

namespace rudder {

// What is behind FeatureServer. server.cc has what any thread calls, server_progress.cc what the worker's
// thread does.
// All but the regions and what `mutex_` guards is owned by the worker's thread.
class FeatureServer::Impl {
 public:
  using Clock = ucx::Worker::Clock;
  using GatherJob = ucx::GatherJob;
  using Region = ucx::Region;

  explicit Impl(const Config& config)
      : stall_(config.stall),
        pool_(config.threads, config.staging_bytes, config.chunk_bytes, [this] { worker_.wake(); }),
        worker_(config.worker) {
    if (config.stall <= std::chrono::nanoseconds(0))
      throw Error(ErrorCode::kConfig, "the time until a client counts as stalled must be positive");
    // Once, instead of each chunk when it is first sent. Where nothing registers memory it changes nothing.
    if (worker_.context().offloads()) worker_.expose(pool_.memory());
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

}  // namespace rudder

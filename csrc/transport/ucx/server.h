// A feature server: answers requests for rows of tables that are mapped in this process, for sessions that
// the door has admitted. One thread progresses UCX and checks requests; others gather the rows.
//
// Thread-safety: every method may be called from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/transport.h"
#include "transport/ucx/gather_pool.h"
#include "transport/ucx/wire.h"
#include "transport/ucx/worker.h"

namespace rudder {

class FeatureServer {
 public:
  using SessionId = std::uint64_t;
  using RegionId = std::uint32_t;

  struct Config {
    ucx::WorkerConfig worker;
    std::size_t threads = 2;                            // that gather rows
    std::size_t staging_bytes = std::size_t{32} << 20;  // chunks gathered and not yet sent, of all clients
    std::size_t chunk_bytes = std::size_t{512} << 10;
    std::chrono::nanoseconds stall{std::chrono::seconds(10)};  // a client that takes nothing for so long goes
  };
  struct Stats {
    std::uint64_t requests = 0, rows = 0, bytes = 0;
    std::uint64_t refused = 0;  // requests answered by a refusal, or dropped as no message of a session
    std::uint64_t sessions = 0, staged_bytes = 0;  // now
  };

  // Throws Error(kConfig, kTransport, kOutOfMemory).
  explicit FeatureServer(const Config& config);
  ~FeatureServer();

  const std::vector<std::byte>& address() const;

  // Maps a shared-memory segment read-only; the same arguments give the same region. Throws Error(kTransport,
  // kConfig) as Segment does, and Error(kConfig) for rows that do not fit a chunk.
  RegionId expose(const std::string& segment, std::size_t rows, std::size_t row_bytes, std::size_t offset);
  // Memory that outlives the server.
  RegionId expose(const std::byte* rows, std::size_t count, std::size_t row_bytes);

  // As Admission has it: where UCX's connections come from, and why others than those let in can connect.
  const std::vector<std::string>& hosts() const;
  const std::string& why_open() const;
  // Before `admit`, lets UCX connections from these IPv4 addresses in until the session is dismissed. Throws
  // Error(kConfig, kTransport).
  void let_in(SessionId session, std::span<const std::string> hosts);

  // For Ucx::open: a key to the region, or why there is none. Throws Error(kConfig) for an unknown region,
  // Error(kClosed).
  wire::Offer offer(RegionId region);

  // UCX begins to connect to the client, who must have let this server's hosts in. Throws Error(kConfig) for
  // a number in use, Error(kTransport) for an address that UCX refuses, Error(kClosed).
  void admit(SessionId session, const wire::Token& token, std::span<const std::byte> address);
  // Lets the session read a region under a table number of its choice. Throws Error(kConfig) for an unknown
  // session or region.
  void grant(SessionId session, TableId table, RegionId region);
  // Unknown numbers are ignored.
  void dismiss(SessionId session);
  // Sessions that ended by themselves since the last call.
  std::vector<SessionId> dismissed();

  Stats stats() const;
  void close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rudder

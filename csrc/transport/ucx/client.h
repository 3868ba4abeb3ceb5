// The `ucx` transport: rows gathered by feature servers of other hosts, over whatever UCX finds best between
// the two machines: RDMA where the fabric has it, TCP elsewhere. A gather is cut into requests of one chunk
// each; every chunk is received straight into the destination. For each peer a bounded number of bytes is
// under way, so no peer's answers crowd out another's.
//
// One transport per process serves every table; one thread progresses it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "transport/transport.h"
#include "transport/ucx/wire.h"
#include "transport/ucx/worker.h"

namespace rudder {

class Ucx final : public Transport {
 public:
  struct Config {
    ucx::WorkerConfig worker;
    std::size_t in_flight_bytes = std::size_t{16} << 20;  // asked for and not yet here, for each peer
    std::size_t chunk_bytes = std::size_t{512} << 10;     // at most what the servers' chunks hold
  };
  // A connection that was lost, and not by `disconnect` or `close`.
  struct Loss {
    PartId peer{};
    std::uint64_t session = 0;  // of that connection: a later one of the peer goes on
    std::string why;
  };
  struct Stats {
    std::uint64_t requests = 0, rows = 0, bytes = 0, errors = 0;
    std::uint64_t in_flight_bytes = 0;  // now
  };

  // Throws Error(kConfig, kTransport).
  explicit Ucx(Config config);
  ~Ucx() override;

  // For FeatureServer::admit.
  const std::vector<std::byte>& address() const;

  // As Admission has it: where UCX's connections come from, and why others than those let in can connect.
  const std::vector<std::string>& hosts() const;
  const std::string& why_open() const;
  // Lets UCX connections from these IPv4 addresses in, until the peer is disconnected or others take their
  // place. Throws Error(kConfig, kTransport).
  void let_in(PartId peer, std::span<const std::string> hosts);

  // Reaches the peer's server, which has this version of UCX and is at this place (as `place` has it), from
  // now on. Replaces the connection that was; its gathers fail. Throws Error(kTransport) for an address that
  // UCX refuses, Error(kClosed).
  void connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
               const wire::Token& token, const std::string& version, const std::string& place);
  // The server has granted the table to the session; `offer`: what it says of one-sided gets. Throws
  // Error(kState) for a peer not connected, Error(kConfig) for rows that do not fit a chunk.
  void open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes,
            const wire::Offer& offer = {});
  // Why rows of a table do not come by one-sided gets; empty where they can.
  std::string why_no_gets(PartId peer, TableId table) const;
  // By gets, or (at first) by requests that the server answers. It lasts beyond this connection, and is of no
  // effect where gets are not possible.
  void use_gets(PartId peer, TableId table, bool on);
  // Fails the gathers under way; later ones are refused until the next connect.
  void disconnect(PartId peer, const std::string& why);
  bool connected(PartId peer) const;
  // Waits until a connection is lost; nothing once the transport is closed. Each loss is told once.
  std::optional<Loss> next_loss();
  Stats stats() const;

  std::string name() const override { return "ucx"; }
  std::string place(PartId peer) const override;
  Reach reach(PartId peer, TableId table, std::size_t row_bytes) const override;
  void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) override;
  // Waits for rows of the tickets that are arriving. Where they do not end within a second, of all tickets
  // together, their connections are given up, since UCX cannot take back a destination otherwise.
  void cancel(Ticket ticket) override { cancel_all({&ticket, 1}); }
  void cancel_all(std::span<const Ticket> tickets) override;
  // What is under way completes as failed.
  void close() override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rudder

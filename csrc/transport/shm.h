// Shared memory: rows of a peer on the same host, read straight from its shard, which its server holds in
// POSIX shared memory already. One memcpy per row and no server involved. Reaches only segments that were
// attached.
#pragma once

#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>

#include "memory/segment.h"
#include "transport/transport.h"

namespace rudder {

class Shm final : public Transport {
 public:
  ~Shm() override;

  // Maps `count` rows from byte `offset` of the segment, read-only. Throws Error(kTransport) where the
  // segment is absent, not ours to read, or shorter than the rows; Error(kConfig) for rows of no bytes.
  void attach(PartId peer, TableId table, const std::string& segment, std::size_t count,
              std::size_t row_bytes, std::size_t offset);

  std::string name() const override { return "shm"; }
  std::string place(PartId) const override { return "this host's shared memory"; }
  Reach reach(PartId peer, TableId table, std::size_t row_bytes) const override;
  void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) override;
  void cancel(Ticket) override {}  // submit is synchronous: nothing is ever in flight
  void close() override;

 private:
  struct Mapping {
    Segment segment;
    std::size_t count;
    std::size_t row_bytes;
  };
  Reach reach_locked(PartId peer, TableId table, std::size_t row_bytes) const;

  // Readers hold it shared while they copy, so that close() never unmaps under them.
  mutable std::shared_mutex mutex_;
  std::map<std::pair<PartId, TableId>, Mapping> mappings_;
  bool closed_ = false;
};

}  // namespace rudder

// The `nccl` transport: ranks, each with a shard of a table and a GPU, trade rows in rounds. Every rank takes
// part in every round, in the same order: it says which rows it wants of whom, serves what the others want of
// it, and finds its own in a destination in device or pinned memory. A rank that has run out of minibatches
// goes on with empty rounds until all have.
//
// It is no Transport: that interface lets any caller ask any peer at any time, while a peer of an exchange
// answers only in a round that it has begun itself. Serving at any time would keep kernels of NCCL waiting
// on every GPU.
//
// A round: counts go over sockets (peers.h), so that no kernel waits for a rank that is late; then row
// numbers and rows go over NCCL, each as one group of sends and receives, on the exchange's own communicator
// and stream. Who gathers them, Serving says.
//
// Nothing waits for ever. A peer that fails, dies, or is late beyond the deadline ends the exchange on every
// rank: NCCL is aborted, and each round that waits, and each later call, throws an error that names the peer.
// One then builds a new exchange, on all ranks.
//
// Thread-safety: every method may be called from any thread; rounds run in the order of start().
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "transport/nccl/grouping.h"
#include "transport/nccl/nccl_api.h"

namespace rudder::nccl {

class Worker;

// How a rank gets the rows of its shard that others ask for.
enum class Serving : std::uint8_t {
  kProcessor,  // from host memory into pinned memory
  kKernel,     // from memory that the GPU reads into device memory, on the exchange's stream
  kCopies,     // the same without a kernel: a copy for each run of neighbouring rows
};

// One round of this rank. Read it when it has finished.
class Round {
 public:
  // Where in the destination the row of ids[i] lies; empty: row i is that of ids[i].
  const std::vector<std::int64_t>& positions() const { return wanted_.positions; }
  // Had every rank run out?
  bool all_done() const { return all_done_; }
  bool finished() const { return finished_.load(std::memory_order_acquire); }

 private:
  friend class Exchange;
  friend class Worker;
  using Event = std::unique_ptr<void, int (*)(void*)>;

  Grouped wanted_;
  std::byte* out_ = nullptr;
  Event after_{nullptr, nullptr};  // the destination is free from there on
  bool done_ = false;              // this rank has run out
  bool all_done_ = false;
  FailurePtr failure_;
  std::atomic<bool> finished_{false};
};
using RoundPtr = std::shared_ptr<Round>;

class Exchange {
 public:
  // Queues on the stream: out[i] = table[rows[i]], all in memory that the device reads.
  using GatherRows = std::function<void(const std::byte* table, std::span<const std::int64_t> rows,
                                        std::size_t row_bytes, std::byte* out, StreamHandle stream)>;

  struct Config {
    std::vector<std::string> nccl_files, cuda_files;  // libraries, the best first
    int device = 0;
    int rank = 0;
    std::vector<int> sockets;  // connected, by rank; they stay the caller's
    UniqueId id{};             // of new_id() on one rank, the same on all

    std::vector<std::int64_t> part_starts;  // rank p owns the ids [starts[p], starts[p+1])
    std::size_t row_bytes = 0;
    const std::byte* shard = nullptr;  // this rank's rows; they outlive the exchange
    // Gathers from device or pinned memory. Empty: from device memory by copies, from pinned by the
    // processor.
    GatherRows gather;

    std::chrono::nanoseconds deadline{std::chrono::seconds(60)};  // for each wait of a round
    // How long NCCL may take for its end, and peers for a sign of life, before they are given up.
    std::chrono::nanoseconds grace{std::chrono::seconds(5)};
    std::size_t threads = 2;    // that gather from host memory
    int max_ctas = 0;           // processors of the GPU for NCCL's kernels, at most; 0: NCCL's choice
    bool self_by_nccl = false;  // also own rows cross NCCL: to try a single GPU
  };
  struct Stats {
    std::uint64_t rounds = 0;
    std::uint64_t rows_got = 0, rows_served = 0;  // own rows not counted
  };

  // Throws Error(kTransport) where the library is not usable.
  static UniqueId new_id(const std::vector<std::string>& nccl_files);

  // Collective: returns when every rank has come. Throws Error(kConfig, kTransport, kDeadline).
  explicit Exchange(Config config);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Begins a round, whichever GPU is the calling thread's. `out`: ids.size() rows, in device or pinned
  // memory, which stay until the round has finished. `after`: the stream with the last work on `out`, if any
  // is under way. `done`: this rank has run out, and has no ids. Throws Error(kOutOfRange, kConfig, kClosed,
  // kTransport), and the failure of an earlier round; nothing has begun then.
  RoundPtr start(std::span<const std::int32_t> ids, std::byte* out, std::optional<StreamHandle> after,
                 bool done);
  RoundPtr start(std::span<const std::int64_t> ids, std::byte* out, std::optional<StreamHandle> after,
                 bool done);
  // Returns when the round's rows are in place, for every stream to read. Throws Error, FetchError.
  void wait(const RoundPtr& round);

  // Where NCCL did not come back, or work on the exchange's stream does not end, the GPU may still write to
  // the destinations of rounds that failed: they must never be freed then.
  bool at_rest() const;
  Stats stats() const;
  Serving serving() const;

  // Ends this rank's part; rounds under way fail. Every rank should close after its last round. Idempotent.
  void close();

 private:
  struct State;
  friend class Worker;

  static Round::Event mark(const State& state, StreamHandle stream);
  RoundPtr start(Grouped wanted, std::byte* out, std::optional<StreamHandle> after, bool done);

  const std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace rudder::nccl

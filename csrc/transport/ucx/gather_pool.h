// Gathers rows of mapped tables into chunks of memory, on threads of its own, for a server that
// answers many clients. Chunks are few, so they are shared out fairly: a client that takes its chunks slowly
// holds its share and no more, and the others go on.
//
// Thread-safety: every method may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "memory/arena.h"
#include "transport/transport.h"

namespace rudder::ucx {

// Rows that may be served: of a segment that `owner` keeps mapped, or of anything else that lives as long.
struct Region {
  std::shared_ptr<const void> owner;
  const std::byte* rows = nullptr;
  std::size_t count = 0;
  std::size_t row_bytes = 0;
};

// One request on its way through the pool.
struct GatherJob {
  std::uint64_t session = 0;
  std::uint64_t request = 0;
  std::shared_ptr<const Region> region;
  Gather gather;      // `out` is the chunk, once there is one
  std::string error;  // why it could not be gathered; the chunk is then of no use
};

class GatherPool {
 public:
  // `on_done` is called on a gathering thread when `take_done` has something new. Throws Error(kConfig,
  // kOutOfMemory).
  GatherPool(std::size_t threads, std::size_t staging_bytes, std::size_t chunk_bytes,
             std::function<void()> on_done);
  ~GatherPool();
  // Ends the threads; `on_done` is not called any more. Chunks stay valid. Idempotent, not thread-safe.
  void stop();
  GatherPool(const GatherPool&) = delete;
  GatherPool& operator=(const GatherPool&) = delete;

  std::size_t chunk_bytes() const { return chunk_bytes_; }
  // All chunks.
  std::span<const std::byte> memory() const { return {memory_.data(), chunks_ * chunk_bytes_}; }

  // REQUIRES rows * row_bytes <= chunk_bytes, and a session that was opened.
  void open(std::uint64_t session);
  void add(GatherJob job);
  // Jobs not yet gathered.
  std::size_t queued(std::uint64_t session) const;
  // Row numbers of all jobs not yet gathered, of all sessions.
  std::size_t queued_rows() const;
  // Forgets what is queued. What is being gathered still comes out of take_done, and its chunk must be given
  // back.
  void drop(std::uint64_t session);

  // Jobs whose chunks are ready, or that failed. Each must be followed by give_back.
  std::vector<GatherJob> take_done();
  void give_back(const GatherJob& job);

  std::size_t chunks_in_use() const;

 private:
  struct Queue {
    std::deque<GatherJob> jobs;
    std::size_t chunks = 0;  // held: being gathered, sent, or about to be
    bool open = true;
  };

  void work();
  // The session whose turn it is, or end(). REQUIRES the mutex.
  std::map<std::uint64_t, Queue>::iterator next();
  void forget_if_done(std::map<std::uint64_t, Queue>::iterator queue);

  const std::size_t chunk_bytes_;
  const std::function<void()> on_done_;
  Arena memory_;
  std::size_t chunks_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::uint64_t, Queue> queues_;
  std::uint64_t last_served_ = 0;
  std::size_t queued_rows_ = 0;
  std::vector<std::byte*> free_;
  std::vector<GatherJob> done_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace rudder::ucx

// One minibatch on its way through the prefetcher: where each of its rows can be read. Built by the owner
// thread; read by the trainer once it is ready.
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <vector>

#include "common/error.h"
#include "common/thread_pool.h"
#include "common/types.h"
#include "prefetcher/copies.h"
#include "prefetcher/staged.h"

namespace rudder {

struct Minibatch {
  // A place is a row of the local shard, or with this bit the number of a distinct remote row.
  static constexpr std::uint32_t kRemote = 1u << 31;

  Seq seq = 0;                        // 0: a read outside the window
  std::vector<std::uint32_t> places;  // by position in the request
  std::size_t waiting_bytes = 0;      // what the caller keeps for it (its blocks)

  // Filled in while it is planned, by the owner thread.
  std::vector<NodeId> ids;                     // distinct remote rows
  std::vector<const std::byte*> where;         // parallel
  std::vector<std::shared_ptr<Staged>> holds;  // the staging memory that `where` points into
  std::vector<SlotId> pins;                    // seq 0 only: slots pinned until it is done
  std::vector<const std::byte*> on_device;     // parallel to where, with a GPU: in its memory, or null
  std::vector<std::uint32_t> device_pins;      // as pins, of the device tier
  std::size_t hits = 0, merged = 0, misses = 0, hits_on_device = 0;
  Copies copies;  // that a GPU makes of its rows: until they are over it counts as in use
  // Fetches that failed before anybody took the minibatch: their rows are asked for once more when somebody
  // does.
  std::vector<std::shared_ptr<Staged>> failed;
  // Shared while rows are copied, unique while `where` changes; taken under the prefetcher's mutex.
  std::shared_mutex moving;

  // Guarded by the prefetcher's mutex.
  bool planned = false;
  std::size_t waits = 0;  // fetches that must complete first
  FailurePtr error;

  bool ready() const { return error != nullptr || (planned && waits == 0); }

  // Writes the numbers of distinct rows, in order, into the places that are marked remote.
  void number(std::span<const std::uint32_t> numbers);

  // Copies the rows in the order of the request, with the pool's threads. REQUIRES `moving` held shared, and
  // ready.
  void copy(const std::byte* local_rows, std::size_t row_bytes, std::byte* out, ThreadPool& pool) const;
  // Where each row of the request can be read for a GPU. REQUIRES the same, and on_device.
  void sources(const std::byte* local_rows, std::size_t row_bytes, std::span<const std::byte*> from,
               ThreadPool& pool) const;
};

}  // namespace rudder

// The device tier: copies of buffered rows in GPU memory, where the ledger says that a row belongs there. The
// buffer keeps every row, so a row that leaves the tier is just forgotten, and rows go up across the bus,
// never the network.
//
// A row goes up in the background, many in one launch on a stream of the tier's own; until it has arrived
// readers take it from the buffer, so nobody waits for it. Memory is plain allocations of at most
// kChunkBytes, had when the limit is set and given back when it is lowered.
//
// Invariants:
//   - a slot is free, rising (its row is on its way) or resident; a row has at most one slot;
//   - a slot is written to only when minibatches up to its last use are released and no unplanned read pins
//   it;
//   - the buffer's slot of a rising row is pinned until it has arrived.
// Thread-safety: none (the owner thread), but for the row bytes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "buffer/feature_buffer.h"
#include "common/thread_pool.h"
#include "cuda/device.h"

namespace rudder {

class DeviceRows {
 public:
  using Slot = std::uint32_t;
  static constexpr Slot kNone = ~Slot{0};
  // What goes back to the GPU at once when the limit falls; small beside a GPU's memory, large beside a
  // cudaMalloc.
  static constexpr std::size_t kChunkBytes = std::size_t{64} << 20;

  DeviceRows(std::shared_ptr<cuda::Device> device, std::size_t row_bytes,
             std::size_t chunk_bytes = kChunkBytes);
  ~DeviceRows();
  DeviceRows(const DeviceRows&) = delete;
  DeviceRows& operator=(const DeviceRows&) = delete;

  void reserve(std::size_t keys) {
    if (keys > place_.size()) place_.resize(keys, kNone);
  }
  // Holds at most this many rows from now on; returns for how many there is memory. Rows that lose their
  // place by it go up again.
  std::size_t set_limit(std::size_t rows);

  // The row belongs here from now on, or no more. Raising what is here, or lowering what is not, does
  // nothing.
  void raise(RowKey row);
  void lower(RowKey row);

  // Where the row can be read; null where it is not here (yet). It stays until minibatch `reader` is
  // released.
  const std::byte* use(RowKey row, Seq reader);
  // The same for a read outside any minibatch: until unpin(slot_of(row)).
  const std::byte* pin(RowKey row);
  Slot slot_of(RowKey row) const { return row < place_.size() ? place_[row] : kNone; }
  void unpin(Slot slot) { --slots_[slot].readers; }

  // Ends copies that are over and starts one of what can go up now. Where the GPU has no memory for it, or
  // fails, rows stay where they are, and go up some time later: nobody needs them here.
  void advance(Seq released, FeatureBuffer& buffer, ThreadPool& pool);

  std::size_t limit() const { return limit_; }
  // Copies that the GPU refused.
  std::uint64_t refused() const { return refused_; }
  // Device memory held.
  std::size_t bytes() const;
  // Memory beside the rows, of the host.
  std::size_t overhead_bytes() const;

 private:
  static constexpr Slot kWaiting = kNone - 1;
  struct Entry {
    std::byte* at = nullptr;
    Seq busy_until = 0;
    std::uint32_t readers = 0;
    RowKey row = kNoRow;
    bool rising = false;
    bool resident = false;
  };
  struct Chunk {
    std::byte* memory;
    std::size_t bytes;
    std::size_t first, rows;  // slots
  };
  struct Rising {
    Slot slot;
    SlotId from;
  };

  bool idle(const Entry& slot, Seq released) const {
    return slot.row == kNoRow && !slot.rising && slot.readers == 0 && slot.busy_until <= released;
  }
  void vacate(Slot slot);
  void arrive(FeatureBuffer& buffer);
  void start(Seq released, FeatureBuffer& buffer, ThreadPool& pool);
  // Gives waiting rows their slots, as far as there are any.
  void begin_rising(Seq released, FeatureBuffer& buffer);
  void give_back(Seq released);
  // Undoes what begin_rising() did: the rows wait again.
  void stay(FeatureBuffer& buffer);

  const std::shared_ptr<cuda::Device> device_;
  const std::size_t row_bytes_;
  const std::size_t chunk_rows_;
  const cuda::Stream stream_;
  std::size_t limit_ = 0;
  std::vector<Chunk> chunks_;  // ascending by slot
  std::vector<Entry> slots_;
  std::deque<Slot> free_;       // below the limit, the longest free first
  std::vector<Slot> place_;     // by RowKey; kWaiting: it is in waiting_
  std::deque<RowKey> waiting_;  // to go up; those whose place is not kWaiting any more are passed over
  std::vector<Rising> rising_;
  cuda::CopyPtr copy_;  // of rising_
  std::uint64_t refused_ = 0;
  std::size_t pause_ = 0;  // calls of advance() that start nothing yet
  // Scratch.
  std::vector<const std::byte*> from_;
  std::vector<std::byte*> to_;
};

}  // namespace rudder

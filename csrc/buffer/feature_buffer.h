// The buffer: slots for feature rows in one arena, and which tracked row lives in which slot. Rows are bytes;
// any dtype and width. It is told what to insert and remove (by the ledger's policy) and decides nothing
// itself.
//
// Invariants:
//   - a slot is free, filling or resident; never two. A row has at most one slot.
//   - a filling slot names where its row is meanwhile (in a staging slab): readers go there until it is
//   filled;
//   - a slot's bytes are overwritten only by `fill`, and only when no reader can hold its address any more:
//     minibatches up to last_use(slot) are released, and no unplanned read pins it.
// Thread-safety: none for the metadata (one owner thread); row bytes of a pinned slot may be read by anyone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/types.h"
#include "memory/arena.h"

namespace rudder {

class FeatureBuffer {
 public:
  // Slots that may be used at most; `set_limit` says how many are. Throws Error(kOutOfMemory / kConfig).
  FeatureBuffer(std::size_t slots, std::size_t row_bytes, Arena::Options options);

  void reserve(std::size_t keys) {
    if (keys > slot_of_.size()) slot_of_.resize(keys, kNoSlot);
  }

  // Uses the slots below `slots` only; rows above move down in `compact`. REQUIRES at most that many rows to
  // be held, and slots <= this->slots().
  void set_limit(std::size_t slots);
  // Moves rows above the limit into free slots below it: readers of the old slot keep it until they are
  // released. When nothing above is read any more its memory goes back to the system; returns how many bytes
  // just did.
  std::size_t compact(Seq released);

  SlotId slot_of(RowKey row) const { return row < slot_of_.size() ? slot_of_[row] : kNoSlot; }

  // Gives the row a free slot; it is filling until `fill`, and `from` holds its bytes until then.
  // REQUIRES a free slot and slot_of(row) == kNoSlot.
  SlotId insert(RowKey row, const std::byte* from);
  // Frees the row's slot, filling or resident; its bytes stay as they are until another row is filled in.
  void remove(RowKey row);

  bool is_filling(SlotId slot) const { return slots_[index(slot)].from != nullptr; }
  // Does the slot still wait for these bytes? (It may have been freed, even taken by another row, since.)
  bool is_filling(SlotId slot, const std::byte* from) const { return slots_[index(slot)].from == from; }
  // May the slot's bytes be overwritten when minibatches up to `released` are done?
  bool overwritable(SlotId slot, Seq released) const {
    return slots_[index(slot)].busy_until <= released && slots_[index(slot)].readers == 0;
  }
  // Copies the row in: filling -> resident. REQUIRES is_filling(slot) and overwritable.
  void fill(SlotId slot);

  // Where the row's bytes can be read: its slot, or while that is filling, its staging place. The minibatch
  // `reader` keeps the slot from being overwritten until it is released.
  const std::byte* use(SlotId slot, Seq reader) {
    Slot& entry = slots_[index(slot)];
    if (entry.from != nullptr) return entry.from;
    if (reader > entry.busy_until) entry.busy_until = reader;
    return row(slot);
  }
  // The same for a read outside any minibatch: a slot that is not filling stays as it is until `unpin`.
  const std::byte* pin(SlotId slot) {
    Slot& entry = slots_[index(slot)];
    if (entry.from != nullptr) return entry.from;
    ++entry.readers;
    return row(slot);
  }
  void unpin(SlotId slot) { --slots_[index(slot)].readers; }

  std::size_t slots() const { return slots_.size(); }
  // Slots whose memory is in use or may come to be: the limit, and beyond it what was not given back yet.
  std::size_t held() const { return held_; }
  std::size_t row_bytes() const { return row_bytes_; }
  const Arena& arena() const { return arena_; }
  // Memory beside the rows.
  std::size_t overhead_bytes() const;

 private:
  struct Slot {
    Seq busy_until = 0;               // minibatches up to here may be reading the slot
    const std::byte* from = nullptr;  // filling: where the bytes are meanwhile
    std::uint32_t readers = 0;        // unplanned reads of the slot
    RowKey row = kNoRow;              // that it holds
  };
  static std::size_t index(SlotId slot) { return static_cast<std::size_t>(value(slot)); }
  std::byte* row(SlotId slot) const { return arena_.data() + index(slot) * row_bytes_; }

  std::size_t row_bytes_;
  std::size_t limit_;
  std::size_t held_;
  bool compacting_ = false;  // rows or readers may be above the limit
  Arena arena_;
  std::vector<Slot> slots_;
  std::vector<SlotId> free_;
  std::vector<SlotId> slot_of_;  // by RowKey
};

}  // namespace rudder

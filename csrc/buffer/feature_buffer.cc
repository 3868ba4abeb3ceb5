#include "buffer/feature_buffer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "common/error.h"

namespace rudder {

FeatureBuffer::FeatureBuffer(std::size_t slots, std::size_t row_bytes, Arena::Options options)
    : row_bytes_(row_bytes), limit_(slots), held_(slots) {
  if (row_bytes == 0) throw Error(ErrorCode::kConfig, "feature rows must have at least one byte");
  if (slots > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw Error(ErrorCode::kConfig,
                "a buffer holds at most 2^31 - 1 rows; asked for " + std::to_string(slots));
  if (slots != 0 && row_bytes > std::numeric_limits<std::size_t>::max() / slots)
    throw Error(ErrorCode::kConfig, "capacity x row size overflows");
  arena_ = Arena(slots * row_bytes, std::move(options));
  slots_.resize(slots);
  free_.reserve(slots);
  for (std::size_t slot = slots; slot-- > 0;) free_.push_back(static_cast<SlotId>(slot));
}

SlotId FeatureBuffer::insert(RowKey row, const std::byte* from) {
  const SlotId slot = free_.back();
  free_.pop_back();
  slots_[index(slot)].from = from;
  slots_[index(slot)].row = row;
  slot_of_[row] = slot;
  return slot;
}

void FeatureBuffer::remove(RowKey row) {
  const SlotId slot = slot_of_[row];
  slots_[index(slot)].from = nullptr;
  slots_[index(slot)].row = kNoRow;
  slot_of_[row] = kNoSlot;
  if (index(slot) < limit_) free_.push_back(slot);
}

void FeatureBuffer::fill(SlotId slot) {
  Slot& entry = slots_[index(slot)];
  std::memcpy(row(slot), entry.from, row_bytes_);
  entry.from = nullptr;
}

void FeatureBuffer::set_limit(std::size_t slots) {
  std::erase_if(free_, [&](SlotId slot) { return index(slot) >= slots; });
  for (std::size_t slot = limit_; slot < slots; ++slot)
    if (slots_[slot].row == kNoRow) free_.push_back(static_cast<SlotId>(slot));
  limit_ = slots;
  held_ = std::max(held_, limit_);
  compacting_ = limit_ < slots_.size();
}

std::size_t FeatureBuffer::compact(Seq released) {
  if (!compacting_) return 0;
  // Free slots whose old row is still read wait at the front.
  const auto usable =
      std::partition(free_.begin(), free_.end(), [&](SlotId slot) { return !overwritable(slot, released); });
  auto left = static_cast<std::size_t>(free_.end() - usable);
  bool clear = true;
  for (std::size_t at = limit_; at < slots_.size(); ++at) {
    Slot& old = slots_[at];
    if (old.row != kNoRow && old.from == nullptr && left > 0) {
      const SlotId slot = free_.back();
      free_.pop_back();
      --left;
      std::memcpy(row(slot), row(static_cast<SlotId>(at)), row_bytes_);
      slots_[index(slot)].row = old.row;
      slot_of_[old.row] = slot;
      old.row = kNoRow;
    }
    clear = clear && old.row == kNoRow && overwritable(static_cast<SlotId>(at), released);
  }
  if (!clear) return 0;
  compacting_ = false;
  if (arena_.returnable()) held_ = limit_;
  return arena_.give_back_from(limit_ * row_bytes_);
}

std::size_t FeatureBuffer::overhead_bytes() const {
  return slots_.capacity() * sizeof(Slot) + free_.capacity() * sizeof(SlotId) +
         slot_of_.capacity() * sizeof(SlotId);
}

}  // namespace rudder

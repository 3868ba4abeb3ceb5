#include "buffer/feature_buffer.h"

#include <cstring>
#include <limits>

#include "common/error.h"

namespace rudder {

FeatureBuffer::FeatureBuffer(std::size_t slots, std::size_t row_bytes, Arena::Options options)
    : row_bytes_(row_bytes) {
  if (row_bytes == 0) throw Error(ErrorCode::kConfig, "feature rows must have at least one byte");
  if (slots > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw Error(ErrorCode::kConfig,
                "a buffer holds at most 2^31 - 1 rows; asked for " + std::to_string(slots));
  if (slots != 0 && row_bytes > std::numeric_limits<std::size_t>::max() / slots)
    throw Error(ErrorCode::kConfig, "capacity x row size overflows");
  arena_ = Arena(slots * row_bytes, options);
  slots_.resize(slots);
  free_.reserve(slots);
  for (std::size_t slot = slots; slot-- > 0;) free_.push_back(static_cast<SlotId>(slot));
}

SlotId FeatureBuffer::insert(RowKey row, const std::byte* from) {
  const SlotId slot = free_.back();
  free_.pop_back();
  slots_[index(slot)].from = from;
  slot_of_[row] = slot;
  return slot;
}

void FeatureBuffer::remove(RowKey row) {
  const SlotId slot = slot_of_[row];
  slots_[index(slot)].from = nullptr;
  slot_of_[row] = kNoSlot;
  free_.push_back(slot);
}

void FeatureBuffer::fill(SlotId slot) {
  Slot& entry = slots_[index(slot)];
  std::memcpy(row(slot), entry.from, row_bytes_);
  entry.from = nullptr;
}

std::size_t FeatureBuffer::overhead_bytes() const {
  return slots_.capacity() * sizeof(Slot) + free_.capacity() * sizeof(SlotId) +
         slot_of_.capacity() * sizeof(SlotId);
}

}  // namespace rudder

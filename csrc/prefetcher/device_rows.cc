#include "prefetcher/device_rows.h"

#include <algorithm>
#include <ranges>
#include <utility>

#include "common/error.h"

namespace rudder {
namespace {

// After a refusal, so many looks without another try: memory comes back with minibatches, not at once, and an
// allocation that fails costs more than a look.
constexpr std::size_t kPause = 256;

}  // namespace

DeviceRows::DeviceRows(std::shared_ptr<cuda::Device> device, std::size_t row_bytes, std::size_t chunk_bytes)
    : device_(std::move(device)),
      row_bytes_(row_bytes),
      chunk_rows_(std::max<std::size_t>(1, chunk_bytes / row_bytes)),
      stream_(device_->runtime().make_stream()) {}

DeviceRows::~DeviceRows() {
  if (copy_) copy_->wait();
  device_->runtime().destroy(stream_);
  for (const Chunk& chunk : chunks_) device_->free(chunk.memory);
}

std::size_t DeviceRows::set_limit(std::size_t rows) {
  if (rows == limit_) return limit_;
  free_.clear();
  while (slots_.size() < rows) {
    const std::size_t more = std::min(chunk_rows_, rows - slots_.size());
    std::byte* memory = device_->allocate(more * row_bytes_);
    if (memory == nullptr) break;
    chunks_.push_back({memory, more * row_bytes_, slots_.size(), more});
    for (std::size_t i = 0; i < more; ++i) slots_.emplace_back().at = memory + i * row_bytes_;
  }
  limit_ = std::min(rows, slots_.size());
  for (std::size_t at = limit_; at < slots_.size(); ++at)
    if (const RowKey row = slots_[at].row; row != kNoRow) {
      vacate(static_cast<Slot>(at));
      raise(row);
    }
  for (std::size_t at = 0; at < limit_; ++at)
    if (slots_[at].row == kNoRow && !slots_[at].rising) free_.push_back(static_cast<Slot>(at));
  return limit_;
}

void DeviceRows::raise(RowKey row) {
  reserve(std::size_t{row} + 1);
  if (place_[row] != kNone) return;
  place_[row] = kWaiting;
  waiting_.push_back(row);
}

void DeviceRows::lower(RowKey row) {
  const Slot slot = slot_of(row);
  if (slot == kNone) return;
  if (slot == kWaiting)
    place_[row] = kNone;
  else
    vacate(slot);
}

// The slot's row has no place any more; a copy that is still on its way to it ends first.
void DeviceRows::vacate(Slot slot) {
  Entry& entry = slots_[slot];
  place_[entry.row] = kNone;
  entry.row = kNoRow;
  entry.resident = false;
  if (!entry.rising && slot < limit_) free_.push_back(slot);
}

const std::byte* DeviceRows::use(RowKey row, Seq reader) {
  const Slot slot = slot_of(row);
  if (slot >= kWaiting || !slots_[slot].resident) return nullptr;
  slots_[slot].busy_until = std::max(slots_[slot].busy_until, reader);
  return slots_[slot].at;
}

const std::byte* DeviceRows::pin(RowKey row) {
  const std::byte* at = use(row, 0);
  if (at != nullptr) ++slots_[slot_of(row)].readers;
  return at;
}

void DeviceRows::advance(Seq released, FeatureBuffer& buffer, ThreadPool& pool) {
  if (copy_ && copy_->done()) arrive(buffer);
  if (pause_ > 0)
    --pause_;
  else if (!copy_ && !waiting_.empty() && !free_.empty())
    start(released, buffer, pool);
  if (slots_.size() > limit_) give_back(released);
}

void DeviceRows::arrive(FeatureBuffer& buffer) {
  copy_.reset();
  for (const Rising& each : std::exchange(rising_, {})) {
    buffer.unpin(each.from);
    Entry& entry = slots_[each.slot];
    entry.rising = false;
    if (entry.row != kNoRow)
      entry.resident = true;
    else if (each.slot < limit_)
      free_.push_back(each.slot);
  }
}

void DeviceRows::start(Seq released, FeatureBuffer& buffer, ThreadPool& pool) {
  begin_rising(released, buffer);
  if (rising_.empty()) return;
  try {
    copy_ = device_->scatter(from_, row_bytes_, to_, stream_, pool);
  } catch (const Error&) {
    // A lost GPU is told to those who gather from it.
    stay(buffer);
    ++refused_;
    pause_ = kPause;
  }
}

void DeviceRows::stay(FeatureBuffer& buffer) {
  // In the order of before: the last to have left their queues go back first.
  for (const Rising& each : std::views::reverse(rising_)) {
    buffer.unpin(each.from);
    Entry& entry = slots_[each.slot];
    place_[entry.row] = kWaiting;
    waiting_.push_front(entry.row);
    entry.row = kNoRow;
    entry.rising = false;
    free_.push_front(each.slot);
  }
  rising_.clear();
}

void DeviceRows::begin_rising(Seq released, FeatureBuffer& buffer) {
  from_.clear();
  to_.clear();
  // What could throw comes first: a row is on its way with all that belongs to it, or not at all.
  const std::size_t most = std::min(waiting_.size(), free_.size());
  from_.reserve(most);
  to_.reserve(most);
  rising_.reserve(most);
  for (std::size_t left = waiting_.size(); left > 0 && !free_.empty(); --left) {
    const RowKey row = waiting_.front();
    waiting_.pop_front();
    if (place_[row] != kWaiting) continue;
    const SlotId from = buffer.slot_of(row);
    if (from == kNoSlot || buffer.is_filling(from)) {  // its bytes are not here yet
      waiting_.push_back(row);
      continue;
    }
    const Slot slot = free_.front();
    if (!idle(slots_[slot], released)) {  // nor are the slots freed after it
      waiting_.push_front(row);
      break;
    }
    free_.pop_front();
    slots_[slot].row = row;
    slots_[slot].rising = true;
    place_[row] = slot;
    rising_.push_back({slot, from});
    from_.push_back(buffer.pin(from));
    to_.push_back(slots_[slot].at);
  }
}

void DeviceRows::give_back(Seq released) {
  while (!chunks_.empty() && chunks_.back().first >= limit_) {
    const Chunk& chunk = chunks_.back();
    for (std::size_t at = chunk.first; at < chunk.first + chunk.rows; ++at)
      if (!idle(slots_[at], released)) return;
    device_->free(chunk.memory);
    slots_.resize(chunk.first);
    chunks_.pop_back();
  }
}

std::size_t DeviceRows::bytes() const {
  std::size_t bytes = 0;
  for (const Chunk& chunk : chunks_) bytes += chunk.bytes;
  return bytes;
}

std::size_t DeviceRows::overhead_bytes() const {
  return slots_.capacity() * sizeof(Entry) + place_.capacity() * sizeof(Slot) +
         (free_.size() * sizeof(Slot)) + waiting_.size() * sizeof(RowKey);
}

}  // namespace rudder

#include "cuda/upload_blocks.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "common/error.h"

namespace rudder::cuda {
namespace {

// The list of a minibatch of 8,192 rows; smaller ones share the size, so that they use each other's blocks.
constexpr std::size_t kSmallest = std::size_t{64} << 10;
// A block more than so many times too large is left for whom it fits.
constexpr std::size_t kTooLarge = 8;

// Blocks that are still being read, of those that fit, before another is made: launches of one stream end in
// their order, and there are few streams. More would ask the GPU about hundreds of launches at each one.
constexpr std::size_t kLooks = 8;

std::size_t size_for(std::size_t bytes) { return std::bit_ceil(std::max(bytes, kSmallest)); }

bool is_read(const UploadBlocks::Block& block) { return block.reader && !block.reader->done(); }

}  // namespace

UploadBlocks::~UploadBlocks() {
  for (const Block& block : idle_) release(block);
  for (const Block& block : abandoned_) release(block);
}

void UploadBlocks::release(const Block& block) noexcept {
  if (block.reader) block.reader->wait();
  if (block.device != nullptr) runtime_->free(block.device);
  runtime_->host_free(block.pinned);
}

bool UploadBlocks::fits(const Block& block, std::size_t bytes) const {
  return block.bytes >= bytes && block.bytes <= size_for(bytes) * kTooLarge;
}

UploadBlocks::Blocks::iterator UploadBlocks::find_unread(std::size_t bytes) {
  std::size_t looks = 0;
  for (auto block = idle_.begin(); block != idle_.end() && looks < kLooks; ++block) {
    if (!fits(*block, bytes)) continue;
    if (!is_read(*block)) return block;
    ++looks;
  }
  return idle_.end();
}

UploadBlocks::Block UploadBlocks::acquire(std::size_t bytes, bool may_wait) {
  const std::size_t size = size_for(bytes);
  bool memory_left = true;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (const auto free = find_unread(bytes); free != idle_.end()) {
      Block block = std::move(*free);
      idle_.erase(free);
      block.reader.reset();
      return block;
    }
    if (memory_left && (held_ + size <= most_bytes_ || idle_.empty())) {
      if (const Block block = make(size); block.pinned != nullptr) return block;
      memory_left = false;
    }
    // One that fits is waited for rather than room made for another: freeing waits for all of the GPU's work.
    auto next =
        std::find_if(idle_.begin(), idle_.end(), [&](const Block& block) { return fits(block, bytes); });
    if (next == idle_.end() && trim_locked()) {
      memory_left = true;
      continue;
    }
    if (next == idle_.end()) next = idle_.begin();
    if (next == idle_.end() || !may_wait)
      throw Error(ErrorCode::kOutOfMemory,
                  "the GPU has no " + std::to_string(size) +
                      " bytes left for a list of rows: lower the device share or the "
                      "model's memory");
    const CopyPtr reader = next->reader;
    lock.unlock();
    if (!reader->wait())
      throw Error(ErrorCode::kDevice, "the GPU does not tell how far it is with the rows it was asked for");
    lock.lock();
  }
}

UploadBlocks::Block UploadBlocks::make(std::size_t size) {
  Block block;
  block.bytes = size;
  try {
    block.pinned = static_cast<std::byte*>(runtime_->host_allocate(size));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kOutOfMemory) throw;
    return {};
  }
  if (mirrored_) {
    block.device = static_cast<std::byte*>(runtime_->allocate(size));
    if (block.device == nullptr) {
      runtime_->host_free(block.pinned);
      return {};
    }
  }
  held_ += size;
  return block;
}

void UploadBlocks::give_back(Block block, CopyPtr reader) {
  block.reader = std::move(reader);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(block));
}

void UploadBlocks::abandon(const Block& block) {
  const std::lock_guard lock(mutex_);
  abandoned_.push_back(block);
}

std::size_t UploadBlocks::bytes() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

void UploadBlocks::trim() noexcept {
  const std::lock_guard lock(mutex_);
  trim_locked();
}

bool UploadBlocks::trim_locked() noexcept {
  const std::size_t freed = std::erase_if(idle_, [this](const Block& block) {
    if (is_read(block)) return false;
    held_ -= block.bytes;
    release(block);
    return true;
  });
  return freed > 0;
}

}  // namespace rudder::cuda

#include "cuda/upload_blocks.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/error.h"

namespace rudder::cuda {
namespace {

// The list of a minibatch of 8,192 rows; smaller ones share the size, so that they use each other's blocks.
constexpr std::size_t kSmallest = std::size_t{64} << 10;
// A block more than so many times too large is left for whom it fits.
constexpr std::size_t kTooLarge = 8;

}  // namespace

UploadBlocks::~UploadBlocks() {
  for (const Block& block : idle_) release(block);
}

void UploadBlocks::release(const Block& block) noexcept {
  if (block.reader) block.reader->wait();
  if (block.device != nullptr) runtime_->free(block.device);
  runtime_->host_free(block.pinned);
}

UploadBlocks::Block UploadBlocks::acquire(std::size_t bytes) {
  const std::size_t size = std::bit_ceil(std::max(bytes, kSmallest));
  {
    const std::lock_guard lock(mutex_);
    const auto fits = [&](const Block& block) {
      return block.bytes >= bytes && block.bytes <= size * kTooLarge &&
             (!block.reader || block.reader->done());
    };
    if (const auto found = std::find_if(idle_.begin(), idle_.end(), fits); found != idle_.end()) {
      std::swap(*found, idle_.back());
      Block block = std::move(idle_.back());
      idle_.pop_back();
      block.reader.reset();
      return block;
    }
  }
  Block block;
  block.bytes = size;
  block.pinned = static_cast<std::byte*>(runtime_->host_allocate(size));
  if (mirrored_) block.device = static_cast<std::byte*>(runtime_->allocate(size));
  if (mirrored_ && block.device == nullptr) {
    runtime_->host_free(block.pinned);
    throw Error(ErrorCode::kOutOfMemory, "the GPU has no " + std::to_string(size) +
                                             " bytes left for a list of rows: lower the device share or the "
                                             "model's memory");
  }
  return block;
}

void UploadBlocks::give_back(Block block, CopyPtr reader) {
  block.reader = std::move(reader);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(block));
}

}  // namespace rudder::cuda

// Blocks of pinned memory in which the CPU hands something to a launch: its list of addresses, or rows that
// lie in memory that is not pinned. A block is used again when the launch that read it is over; where none
// is, another is made, so nothing waits for the GPU, unless it lags so far behind that the blocks that it has
// yet to read take as much as they may: then whoever wants one waits for the oldest of them.
// Thread-safety: every method may be called from any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/copy.h"
#include "cuda/runtime.h"

namespace rudder::cuda {

class UploadBlocks {
 public:
  struct Block {
    std::byte* pinned = nullptr;
    std::byte* device = nullptr;  // of the same size, where blocks are mirrored
    std::size_t bytes = 0;
    CopyPtr reader;  // the launch that used it last
  };

  // mirrored: each block has a place in device memory, too. most_bytes: of all blocks, their mirrors not
  // counted; one for each caller at a time always passes.
  UploadBlocks(std::shared_ptr<Runtime> runtime, bool mirrored, std::size_t most_bytes)
      : runtime_(std::move(runtime)), mirrored_(mirrored), most_bytes_(most_bytes) {}
  ~UploadBlocks();
  UploadBlocks(const UploadBlocks&) = delete;
  UploadBlocks& operator=(const UploadBlocks&) = delete;

  // A block of at least so many bytes that nobody reads. Throws Error(kOutOfMemory), also where there is room
  // only for one who `may_wait`; Error(kDevice) where the GPU does not tell how far it is.
  Block acquire(std::size_t bytes, bool may_wait);
  // Back again, with the launch that reads it (null: none does).
  void give_back(Block block, CopyPtr reader);
  // Back, but nothing tells when the GPU has read it: nobody gets it any more.
  void abandon(const Block& block);

  // Pinned memory that is held; mirrored blocks hold as much on the device.
  std::size_t bytes() const;
  // Frees all blocks that nobody reads. May wait for the GPU, as CUDA's frees do.
  void trim() noexcept;

 private:
  using Blocks = std::vector<Block>;

  bool fits(const Block& block, std::size_t bytes) const;
  Blocks::iterator find_unread(std::size_t bytes);  // REQUIRES mutex_
  // Null members where there is no memory. REQUIRES mutex_.
  Block make(std::size_t size);
  bool trim_locked() noexcept;  // REQUIRES mutex_; false where there was nothing to free
  void release(const Block& block) noexcept;

  const std::shared_ptr<Runtime> runtime_;
  const bool mirrored_;
  const std::size_t most_bytes_;
  mutable std::mutex mutex_;
  Blocks idle_;  // and those being read, whose `reader` is not done; the longest given back first
  Blocks abandoned_;
  std::size_t held_ = 0;  // bytes of all blocks, those in callers' hands too
};

}  // namespace rudder::cuda

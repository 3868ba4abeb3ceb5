// Blocks of pinned memory in which the CPU hands something to a launch: its list of addresses, or rows that
// lie in memory that is not pinned. A block is used again when the launch that read it is over; where none
// is, another is made, so nothing ever waits.
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

  // mirrored: each block has a place in device memory, too.
  UploadBlocks(std::shared_ptr<Runtime> runtime, bool mirrored)
      : runtime_(std::move(runtime)), mirrored_(mirrored) {}
  ~UploadBlocks();
  UploadBlocks(const UploadBlocks&) = delete;
  UploadBlocks& operator=(const UploadBlocks&) = delete;

  // A block of at least so many bytes that nobody reads. Throws Error(kOutOfMemory).
  Block acquire(std::size_t bytes);
  // Back again, with the launch that reads it (null: none does).
  void give_back(Block block, CopyPtr reader);

 private:
  void release(const Block& block) noexcept;

  const std::shared_ptr<Runtime> runtime_;
  const bool mirrored_;
  std::mutex mutex_;
  std::vector<Block> idle_;  // and those being read, whose `reader` is not done
};

}  // namespace rudder::cuda

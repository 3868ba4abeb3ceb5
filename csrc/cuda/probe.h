// Gathers from one table held in every kind of memory, through the calls that training makes: for benchmarks.
// Thread-safety: one call at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/thread_pool.h"
#include "cuda/device.h"
#include "memory/arena.h"

namespace rudder::cuda {

class GatherProbe {
 public:
  // Where a row is read. kMixed: by its number in turns on the device, pinned, and in memory that is not
  // pinned.
  enum class Tier { kDevice, kPinned, kPageable, kMixed };

  // Copies the rows, which stay the caller's, into pinned and device memory. Throws Error(kOutOfMemory) where
  // the GPU has no room for them, Error(kConfig) where they cannot be pinned.
  GatherProbe(std::shared_ptr<Device> device, const std::byte* rows, std::size_t count, std::size_t row_bytes,
              std::size_t threads);
  GatherProbe(const GatherProbe&) = delete;
  GatherProbe& operator=(const GatherProbe&) = delete;

  // As a minibatch is gathered: addresses listed by the CPU, uploaded, one launch. REQUIRES ids in the table.
  void gather(Tier tier, std::span<const std::int64_t> ids, std::byte* out, Stream stream);
  // The kernel alone: `list` puts row numbers on the device, as int64 or int32, and waits for that. REQUIRES
  // kDevice or kPinned.
  void list(std::span<const std::int64_t> ids, bool wide);
  void gather_listed(Tier tier, std::byte* out, Stream stream);

 private:
  const std::byte* row(Tier tier, std::int64_t id) const;
  // Device memory with a copy of these bytes; null where there is not enough left. Waits for the copy.
  DeviceMemory upload(const std::byte* pinned, std::size_t bytes) const;

  const std::shared_ptr<Device> device_;
  const std::byte* const pageable_;
  const std::size_t row_bytes_;
  Arena pinned_;
  DeviceMemory on_device_;
  DeviceMemory listed_;
  std::size_t listed_rows_ = 0;
  bool wide_ = true;
  ThreadPool pool_;
  std::vector<const std::byte*> from_;
};

}  // namespace rudder::cuda

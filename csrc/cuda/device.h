// A GPU as the prefetcher uses it: pins arenas, gathers rows from any mix of memory in one launch on the
// caller's stream, and tells when a copy is over. Nothing here waits for the GPU but `Copy::wait`.
//
// A row is read where it lies: in device memory, or in pinned host memory across the bus (zero-copy). Rows in
// memory that could not be pinned are copied into a pinned block first, by the CPU, and read from there in
// the same launch. The list of rows goes up as slots of 4 bytes (row_windows.h), as addresses only where rows
// lie off the grid of their memory. Thread-safety: every method may be called from any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "common/thread_pool.h"
#include "cuda/row_windows.h"
#include "cuda/runtime.h"
#include "cuda/upload_blocks.h"
#include "memory/pin.h"

namespace rudder::cuda {

class Device final : public Pinner, public std::enable_shared_from_this<Device> {
 public:
  static std::shared_ptr<Device> make(std::shared_ptr<Runtime> runtime);
  ~Device() override;

  std::string name() const { return runtime_->name(); }
  Runtime& runtime() { return *runtime_; }
  std::shared_ptr<Runtime> shared_runtime() const { return runtime_; }

  // Pinner. What is pinned, or allocated below, may be named as a source of gathers. The same range may be
  // pinned again (two tables over one shard): it stays until it was unpinned as often.
  bool pin(void* memory, std::size_t bytes, bool read_only, std::string& refusal) override;
  void unpin(void* memory) noexcept override;

  // Device memory; null where there is not enough left.
  std::byte* allocate(std::size_t bytes);
  void free(std::byte* memory) noexcept;

  // Copies rows of row_bytes from these addresses to `out`, one after another, or each to its own address.
  // The sources must stay as they are until the copy is done. `pool` copies rows that lie in memory that is
  // not pinned. Throws Error(kDevice / kOutOfMemory), and Error(kState) for a stream that is being captured.
  // A scatter never waits: where the GPU lags too far behind, it throws Error(kOutOfMemory).
  CopyPtr gather(std::span<const std::byte* const> from, std::size_t row_bytes, std::byte* out, Stream stream,
                 ThreadPool& pool);
  CopyPtr scatter(std::span<const std::byte* const> from, std::size_t row_bytes,
                  std::span<std::byte* const> to, Stream stream, ThreadPool& pool);

  // Memory held for what is handed to launches: pinned memory of the host, and of the device.
  std::size_t upload_bytes() const { return lists_.bytes() + rows_.bytes(); }
  std::size_t upload_device_bytes() const { return lists_.bytes(); }
  // Gives back what of it nobody reads; for ends, not for steps.
  void trim() noexcept {
    lists_.trim();
    rows_.trim();
  }

 private:
  struct Region {
    const std::byte* begin;
    const std::byte* end;
    std::size_t users = 1;
  };

  explicit Device(std::shared_ptr<Runtime> runtime);
  void add(const void* memory, std::size_t bytes);
  // One user more of exactly this region; false where it is not there.
  bool share(const void* memory, std::size_t bytes);
  // One user less; true where that was the last.
  bool remove(const void* memory) noexcept;
  // `to` names a place for each row; empty: one row after another from `out` on.
  CopyPtr launch(std::span<const std::byte* const> from, std::size_t row_bytes, std::byte* out,
                 std::span<std::byte* const> to, Stream stream, ThreadPool& pool);
  // Of a launch that failed on the way: nobody may write to blocks that work on the stream still reads.
  void give_back(const CopyPtr& copy, bool queued, Stream stream, const UploadBlocks::Block& list,
                 const UploadBlocks::Block& rows);
  struct Listed {
    std::uint64_t bits = 0;               // of all addresses, or-ed
    std::vector<std::size_t> unreadable;  // positions of rows that the GPU cannot read where they lie
    bool complete = true;                 // false: a row has no slot
  };
  // Calls write(i, row, region) for each row that lies in a region. REQUIRES regions_mutex_.
  template <typename Write>
  Listed enlist(std::span<const std::byte* const> from, std::size_t row_bytes, ThreadPool& pool,
                const Write& write) const;
  // Writes slots, and those of the targets after them, adding windows of all regions; `complete` says whether
  // that was possible and takes fewer bytes than addresses.
  Listed enlist_slots(std::span<const std::byte* const> from, std::span<std::byte* const> to,
                      std::size_t row_bytes, std::uint32_t* list, RowWindows& windows,
                      ThreadPool& pool) const;
  Listed enlist_addresses(std::span<const std::byte* const> from, std::span<std::byte* const> to,
                          std::size_t row_bytes, const std::byte** list, ThreadPool& pool) const;

  const std::shared_ptr<Runtime> runtime_;
  UploadBlocks lists_;
  UploadBlocks rows_;
  std::mutex pinning_;  // pins and unpins one at a time
  mutable std::shared_mutex regions_mutex_;
  std::vector<Region> regions_;  // readable by the GPU; ascending, disjoint
};

// Device memory that is freed with whoever holds it.
struct FreeOnDevice {
  std::shared_ptr<Device> device;
  void operator()(std::byte* memory) const noexcept { device->free(memory); }
};
using DeviceMemory = std::unique_ptr<std::byte, FreeOnDevice>;

}  // namespace rudder::cuda

// Where every remote row can be read: its buffer slot, or the staging of a fetch. Carries out the ledger's
// verdicts: frees the slots of evicted rows, lays out what must be fetched, and moves arrived rows into their
// slots when nobody reads the slot's old row any more. Until then readers go to the staging place, so nothing
// ever waits for a copy.
//
// A row costs one copy from the network into staging, one from there into the batch, and one more only if it
// is kept. Thread-safety: none (the owner thread), but for the row bytes.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "buffer/feature_buffer.h"
#include "common/part_map.h"
#include "fetch/fetch_engine.h"
#include "ledger/ledger.h"
#include "memory/slab_pool.h"
#include "prefetcher/device_rows.h"
#include "prefetcher/minibatch.h"
#include "prefetcher/staged.h"

namespace rudder {

class RowStore {
 public:
  using StagedPtr = std::shared_ptr<Staged>;
  // Rows to be gathered into a slab; `staged` is null where there is nothing to fetch.
  struct Order {
    StagedPtr staged;
    std::vector<Gather> gathers;  // one per partition
  };

  // rows: of the buffer now; slots: that set_capacity may ask for at most. gpu: that reads the rows, null
  // where none does.
  RowStore(const PartMap& parts, TableId table, std::size_t rows, std::size_t slots, std::size_t row_bytes,
           const std::shared_ptr<cuda::Device>& gpu);

  // Fills in batch.ids, where, on_device, holds and pins as the verdict says, and returns what must be
  // fetched for it.
  Order place(Minibatch& batch, const Verdict& verdict, const Ledger& ledger);
  // Gives these distinct rows of a placed minibatch a new staging place, to be fetched again.
  Order replace(Minibatch& batch, std::span<const std::size_t> rows);

  // The buffer holds at most this many rows from now on; the memory beyond goes back to the system as readers
  // leave it.
  void set_capacity(std::size_t rows) { buffer_.set_limit(rows); }
  // Frees the slots of rows that left the buffer, also on the device.
  void remove(std::span<const RowKey> rows);
  // Room for this many rows on the device from now on; returns for how many there is memory. REQUIRES a GPU.
  std::size_t set_device_rows(std::size_t rows) { return device_->set_limit(rows); }
  // These rows left the device tier.
  void lower(std::span<const RowKey> rows);
  // Moves rows up to the device, as far as they can go now.
  void advance(Seq released, ThreadPool& pool) {
    if (device_) device_->advance(released, buffer_, pool);
  }
  // The rows of a fetch are here.
  void arrived(Staged& staged);
  // They will never be: whatever the ledger counts on of them is taken back.
  void failed(const Staged& staged, Ledger& ledger);
  // Staging of minibatches before this one serves no later minibatch.
  void unstage_before(Seq seq);
  // Moves arrived rows into slots that no minibatch beyond `released` is reading.
  void fill(Seq released);
  void unpin(Minibatch& batch);

  const FeatureBuffer& buffer() const { return buffer_; }
  std::size_t device_rows() const { return device_ ? device_->limit() : 0; }
  std::size_t device_bytes() const { return device_ ? device_->bytes() : 0; }
  std::uint64_t promotions_refused() const { return device_ ? device_->refused() : 0; }
  // Memory beside the rows of buffer and staging.
  std::size_t overhead_bytes() const;
  std::size_t staging_bytes() const { return slabs_->bytes_in_use(); }
  // Gives staging memory beyond this back to the system, as far as it is idle.
  void trim(std::size_t bytes) { slabs_->trim(bytes); }

 private:
  struct Place {
    const std::byte* where = nullptr;
    Staged* in = nullptr;
  };
  static std::size_t index(SlotId slot) { return static_cast<std::size_t>(value(slot)); }
  static void hold(Minibatch& batch, Staged& staged);
  void want(RowKey row, const std::byte* from, Staged& staged);
  void find_on_device(Minibatch& batch, std::size_t i, RowKey row);
  // Lays out `ids` in a fresh slab, partition by partition; at[k] is where ids[k] will be.
  Order lay_out(std::span<const NodeId> ids, std::vector<const std::byte*>& at);

  const PartMap& parts_;
  const TableId table_;
  FeatureBuffer buffer_;
  std::unique_ptr<DeviceRows> device_;  // null without a GPU
  std::shared_ptr<SlabPool> slabs_;
  std::vector<Staged*> filler_;      // by slot; valid while the slot is filling
  std::vector<Place> staged_place_;  // by key; valid while the ledger calls the row staged
  std::vector<StagedPtr> filling_;   // arrived, with rows that wait for their slot's readers
  std::deque<std::pair<Seq, StagedPtr>> staged_;
};

}  // namespace rudder

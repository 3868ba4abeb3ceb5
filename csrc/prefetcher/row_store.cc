#include "prefetcher/row_store.h"

#include <algorithm>

namespace rudder {

RowStore::RowStore(const PartMap& parts, TableId table, std::size_t rows, std::size_t slots,
                   std::size_t row_bytes, const std::shared_ptr<cuda::Device>& gpu)
    : parts_(parts),
      table_(table),
      // Who may take more later, and give back, wants pages that can be.
      buffer_(slots, row_bytes, {.reserved = rows == slots, .pinner = gpu}),
      device_(gpu ? std::make_unique<DeviceRows>(gpu, row_bytes) : nullptr),
      slabs_(SlabPool::make({.pinner = gpu})),
      filler_(slots, nullptr) {
  if (rows == slots) return;
  buffer_.set_limit(rows);
  buffer_.compact(0);
}

void RowStore::hold(Minibatch& batch, Staged& staged) {
  // Few fetches, and neighbouring rows mostly share one: look from the back.
  const auto same = [&](const StagedPtr& held) { return held.get() == &staged; };
  if (std::none_of(batch.holds.rbegin(), batch.holds.rend(), same))
    batch.holds.push_back(staged.shared_from_this());
}

void RowStore::want(RowKey row, const std::byte* from, Staged& staged) {
  const SlotId slot = buffer_.insert(row, from);
  filler_[index(slot)] = &staged;
  // A fetch that arrived with nothing to fill is not in filling_ any more.
  if (staged.done && staged.fills.empty()) filling_.push_back(staged.shared_from_this());
  staged.fills.push_back({slot, from});
}

RowStore::Order RowStore::lay_out(std::span<const NodeId> ids, std::vector<const std::byte*>& at) {
  Order order;
  if (ids.empty()) return order;
  const std::size_t width = buffer_.row_bytes();
  order.staged = std::make_shared<Staged>();
  order.staged->slab = slabs_->acquire(ids.size() * width);
  order.staged->ids.resize(ids.size());

  // Counting sort by partition: each partition's answer is then one contiguous piece.
  std::vector<PartId> part(ids.size());
  std::vector<std::size_t> next(static_cast<std::size_t>(parts_.parts()) + 1, 0);
  for (std::size_t k = 0; k < ids.size(); ++k) {
    part[k] = parts_.part_of(ids[k]);
    ++next[static_cast<std::size_t>(value(part[k])) + 1];
  }
  std::vector<std::size_t> gather_of(next.size(), 0);
  for (std::size_t p = 0; p + 1 < next.size(); ++p) {
    const std::size_t count = next[p + 1];
    next[p + 1] += next[p];
    if (count == 0) continue;
    gather_of[p] = order.gathers.size();
    order.gathers.push_back({.peer = static_cast<PartId>(p),
                             .table = table_,
                             .rows = {},
                             .row_bytes = width,
                             .out = order.staged->slab.data() + next[p] * width});
    order.gathers.back().rows.reserve(count);
  }
  at.resize(ids.size());
  for (std::size_t k = 0; k < ids.size(); ++k) {
    const auto p = static_cast<std::size_t>(value(part[k]));
    const std::size_t place = next[p]++;
    order.gathers[gather_of[p]].rows.push_back(parts_.row_of(ids[k], part[k]));
    order.staged->ids[place] = ids[k];
    at[k] = order.staged->slab.data() + place * width;
  }
  return order;
}

RowStore::Order RowStore::place(Minibatch& batch, const Verdict& verdict, const Ledger& ledger) {
  using How = Verdict::How;
  const bool planned = batch.seq != 0;
  const std::size_t n = verdict.rows.size();
  buffer_.reserve(ledger.keys());
  staged_place_.resize(ledger.keys());
  batch.ids.assign(verdict.ids.begin(), verdict.ids.end());
  batch.where.resize(n);
  if (device_) batch.on_device.assign(n, nullptr);

  // 1. What is here already, read before anything leaves.
  std::vector<NodeId> fetch;  // the misses, then the replacements
  fetch.reserve(verdict.misses + verdict.replaced.size());
  for (std::size_t i = 0; i < n; ++i) {
    if (verdict.how[i] == How::kMiss) {
      fetch.push_back(verdict.ids[i]);
    } else if (verdict.how[i] == How::kMerged) {
      const Place& staged = staged_place_[verdict.rows[i]];
      batch.where[i] = staged.where;
      hold(batch, *staged.in);
    } else {
      const SlotId slot = buffer_.slot_of(verdict.rows[i]);
      batch.where[i] = planned ? buffer_.use(slot, batch.seq) : buffer_.pin(slot);
      if (buffer_.is_filling(slot))
        hold(batch, *filler_[index(slot)]);
      else if (!planned)
        batch.pins.push_back(slot);
      if (device_) find_on_device(batch, i, verdict.rows[i]);
    }
  }

  fetch.insert(fetch.end(), verdict.replaced_ids.begin(), verdict.replaced_ids.end());

  // 2. What leaves makes room for what comes.
  remove(verdict.evicted);
  lower(verdict.lowered);

  // 3. What must be fetched, and what of it stays.
  std::vector<const std::byte*> at;
  Order order = lay_out(fetch, at);
  if (order.staged && verdict.misses != 0) batch.holds.push_back(order.staged);
  bool serves_later = false;
  std::size_t miss = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const RowKey row = verdict.rows[i];
    if (verdict.how[i] == How::kMiss) {
      batch.where[i] = at[miss++];
      if (verdict.keep[i]) want(row, batch.where[i], *order.staged);
      if (planned && ledger.staged(row)) {
        staged_place_[row] = {batch.where[i], order.staged.get()};
        serves_later = true;
      }
    } else if (verdict.how[i] == How::kMerged && verdict.keep[i]) {
      want(row, batch.where[i], *staged_place_[row].in);
    }
  }
  for (std::size_t k = 0; k < verdict.replaced.size(); ++k)
    want(verdict.replaced[k], at[verdict.misses + k], *order.staged);
  for (const RowKey row : verdict.raised) device_->raise(row);
  if (serves_later) staged_.emplace_back(batch.seq, order.staged);
  return order;
}

RowStore::Order RowStore::replace(Minibatch& batch, std::span<const std::size_t> rows) {
  std::vector<NodeId> ids;
  for (const std::size_t row : rows) ids.push_back(batch.ids[row]);
  std::vector<const std::byte*> at;
  Order order = lay_out(ids, at);
  for (std::size_t k = 0; k < rows.size(); ++k) {
    batch.where[rows[k]] = at[k];
    if (device_) batch.on_device[rows[k]] = nullptr;
  }
  if (order.staged) batch.holds.push_back(order.staged);
  return order;
}

void RowStore::find_on_device(Minibatch& batch, std::size_t i, RowKey row) {
  batch.on_device[i] = batch.seq != 0 ? device_->use(row, batch.seq) : device_->pin(row);
  if (batch.on_device[i] == nullptr) return;
  ++batch.hits_on_device;
  if (batch.seq == 0) batch.device_pins.push_back(device_->slot_of(row));
}

void RowStore::remove(std::span<const RowKey> rows) {
  lower(rows);
  for (const RowKey row : rows) buffer_.remove(row);
}

void RowStore::lower(std::span<const RowKey> rows) {
  if (device_)
    for (const RowKey row : rows) device_->lower(row);
}

void RowStore::arrived(Staged& staged) {
  staged.done = true;
  if (!staged.fills.empty()) filling_.push_back(staged.shared_from_this());
}

void RowStore::failed(const Staged& staged, Ledger& ledger) {
  for (const NodeId id : staged.ids) {
    const RowKey row = ledger.find(id);
    if (row == kNoRow) continue;
    if (ledger.cached(row)) {
      const SlotId slot = buffer_.slot_of(row);
      if (!buffer_.is_filling(slot) || filler_[index(slot)] != &staged) continue;
      remove({&row, 1});
      ledger.invalidate(id);
    } else if (ledger.staged(row) && staged_place_[row].in == &staged) {
      ledger.invalidate(id);
    }
  }
}

void RowStore::unstage_before(Seq seq) {
  while (!staged_.empty() && staged_.front().first < seq) staged_.pop_front();
}

void RowStore::fill(Seq released) {
  std::erase_if(filling_, [&](const StagedPtr& staged) {
    std::erase_if(staged->fills, [&](const Staged::Fill& fill) {
      if (!buffer_.is_filling(fill.slot, fill.from)) return true;  // evicted meanwhile
      if (!buffer_.overwritable(fill.slot, released)) return false;
      buffer_.fill(fill.slot);
      return true;
    });
    return staged->fills.empty();
  });
  buffer_.compact(released);
}

void RowStore::unpin(Minibatch& batch) {
  for (const SlotId slot : batch.pins) buffer_.unpin(slot);
  batch.pins.clear();
  for (const DeviceRows::Slot slot : batch.device_pins) device_->unpin(slot);
  batch.device_pins.clear();
  batch.holds.clear();
}

std::size_t RowStore::overhead_bytes() const {
  return buffer_.overhead_bytes() + filler_.capacity() * sizeof(Staged*) +
         staged_place_.capacity() * sizeof(Place) + (device_ ? device_->overhead_bytes() : 0);
}

}  // namespace rudder

#include "cuda/device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/error.h"

namespace rudder::cuda {
namespace {

// Rows per piece of the loops over a list: microseconds of work, so that handing it out costs nothing.
constexpr std::size_t kGrainRows = 16384;
// The same for rows that are copied, in bytes.
constexpr std::size_t kGrainBytes = std::size_t{256} << 10;
// Of lists that the GPU has yet to read: those of hundreds of minibatches of 8,192 rows, more than CUDA
// queues launches for. And of rows, which are large: as much as a table stages by itself.
constexpr std::size_t kMostListBytes = std::size_t{32} << 20;
constexpr std::size_t kMostRowBytes = std::size_t{256} << 20;

}  // namespace

std::shared_ptr<Device> Device::make(std::shared_ptr<Runtime> runtime) {
  return std::shared_ptr<Device>(new Device(std::move(runtime)));
}

Device::Device(std::shared_ptr<Runtime> runtime)
    : runtime_(std::move(runtime)),
      lists_(runtime_, true, kMostListBytes),
      rows_(runtime_, false, kMostRowBytes) {}

Device::~Device() = default;

bool Device::pin(void* memory, std::size_t bytes, bool read_only, std::string& refusal) {
  const std::lock_guard lock(pinning_);
  if (share(memory, bytes)) return true;
  if (!runtime_->host_register(memory, bytes, read_only, refusal)) return false;
  add(memory, bytes);
  return true;
}

void Device::unpin(void* memory) noexcept {
  const std::lock_guard lock(pinning_);
  if (remove(memory)) runtime_->host_unregister(memory);
}

std::byte* Device::allocate(std::size_t bytes) {
  void* memory = runtime_->allocate(bytes);
  if (memory != nullptr) add(memory, bytes);
  return static_cast<std::byte*>(memory);
}

void Device::free(std::byte* memory) noexcept {
  remove(memory);
  runtime_->free(memory);
}

void Device::add(const void* memory, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(memory);
  const std::lock_guard lock(regions_mutex_);
  const auto after =
      std::upper_bound(regions_.begin(), regions_.end(), begin,
                       [](const std::byte* at, const Region& other) { return at < other.begin; });
  regions_.insert(after, {begin, begin + bytes, 1});
}

bool Device::share(const void* memory, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(memory);
  const std::lock_guard lock(regions_mutex_);
  for (Region& region : regions_)
    if (region.begin == begin && region.end == begin + bytes) {
      ++region.users;
      return true;
    }
  return false;
}

bool Device::remove(const void* memory) noexcept {
  const std::lock_guard lock(regions_mutex_);
  const auto found = std::find_if(regions_.begin(), regions_.end(),
                                  [&](const Region& region) { return region.begin == memory; });
  if (--found->users > 0) return false;
  regions_.erase(found);
  return true;
}

template <typename Write>
Device::Listed Device::enlist(std::span<const std::byte* const> from, std::size_t row_bytes, ThreadPool& pool,
                              const Write& write) const {
  Listed all;
  std::mutex merging;
  pool.split(from.size(), kGrainRows, [&](std::size_t begin, std::size_t end) {
    Listed piece;
    const Region* last = nullptr;  // neighbouring rows mostly lie in the same region
    for (std::size_t i = begin; i < end && piece.complete; ++i) {
      const std::byte* row = from[i];
      if (last == nullptr || row < last->begin || row + row_bytes > last->end) {
        const auto after =
            std::upper_bound(regions_.begin(), regions_.end(), row,
                             [](const std::byte* at, const Region& other) { return at < other.begin; });
        if (after == regions_.begin() || row + row_bytes > std::prev(after)->end) {
          piece.unreadable.push_back(i);
          continue;
        }
        last = &*std::prev(after);
      }
      piece.complete = write(i, row, *last);
      piece.bits |= reinterpret_cast<std::uint64_t>(row);
    }
    const std::lock_guard guard(merging);
    all.bits |= piece.bits;
    all.complete = all.complete && piece.complete;
    all.unreadable.insert(all.unreadable.end(), piece.unreadable.begin(), piece.unreadable.end());
  });
  return all;
}

Device::Listed Device::enlist_slots(std::span<const std::byte* const> from, std::span<std::byte* const> to,
                                    std::size_t row_bytes, std::uint32_t* list, RowWindows& windows,
                                    ThreadPool& pool) const {
  std::vector<std::size_t> first;
  first.reserve(regions_.size());
  const auto rows_of = [row_bytes](const Region& region) {
    return static_cast<std::size_t>(region.end - region.begin) / row_bytes;
  };
  for (const Region& region : regions_) first.push_back(windows.add(region.begin, rows_of(region)));
  // Those for rows of none of them, and one to align the table, too. A table that takes what slots save is no
  // gain.
  const std::size_t most = windows.starts().size() + from.size() / RowWindows::kWindowRows + 2;
  const std::size_t saved = (from.size() + to.size()) * (sizeof(std::byte*) - sizeof(std::uint32_t));
  if (most > RowWindows::kMost || most * sizeof(std::byte*) > saved)
    return {.bits = 0, .unreadable = {}, .complete = false};
  const auto write_to = [&](std::uint32_t* slots) {
    return [&, slots](std::size_t i, const std::byte* at, const Region& region) {
      std::size_t row = 0;
      if (!windows.row_at(static_cast<std::size_t>(at - region.begin), rows_of(region), row)) return false;
      slots[i] = RowWindows::slot(first[static_cast<std::size_t>(&region - regions_.data())], row);
      return true;
    };
  };
  Listed listed = enlist(from, row_bytes, pool, write_to(list));
  if (to.empty() || !listed.complete) return listed;
  const std::vector<const std::byte*> targets(to.begin(), to.end());
  const Listed there = enlist(targets, row_bytes, pool, write_to(list + from.size()));
  listed.bits |= there.bits;
  listed.complete = there.complete && there.unreadable.empty();
  return listed;
}

Device::Listed Device::enlist_addresses(std::span<const std::byte* const> from,
                                        std::span<std::byte* const> to, std::size_t row_bytes,
                                        const std::byte** list, ThreadPool& pool) const {
  Listed listed = enlist(from, row_bytes, pool, [&](std::size_t i, const std::byte* row, const Region&) {
    list[i] = row;
    return true;
  });
  for (std::size_t i = 0; i < to.size(); ++i) {
    list[from.size() + i] = to[i];
    listed.bits |= reinterpret_cast<std::uint64_t>(to[i]);
  }
  return listed;
}

CopyPtr Device::gather(std::span<const std::byte* const> from, std::size_t row_bytes, std::byte* out,
                       Stream stream, ThreadPool& pool) {
  return launch(from, row_bytes, out, {}, stream, pool);
}

CopyPtr Device::scatter(std::span<const std::byte* const> from, std::size_t row_bytes,
                        std::span<std::byte* const> to, Stream stream, ThreadPool& pool) {
  return launch(from, row_bytes, nullptr, to, stream, pool);
}

CopyPtr Device::launch(std::span<const std::byte* const> from, std::size_t row_bytes, std::byte* out,
                       std::span<std::byte* const> to, Stream stream, ThreadPool& pool) {
  const std::size_t n = from.size();
  const bool may_wait = to.empty();
  const auto copy = std::make_shared<Copy>(runtime_, runtime_->make_event());
  // Slots take less, the windows included.
  const UploadBlocks::Block list = lists_.acquire((n + to.size()) * sizeof(std::byte*), may_wait);
  UploadBlocks::Block rows;
  bool queued = false;
  try {
    auto* slots = reinterpret_cast<std::uint32_t*>(list.pinned);
    auto** addresses = reinterpret_cast<const std::byte**>(list.pinned);
    RowWindows windows(row_bytes);
    Listed listed;
    bool narrow = false;
    {
      const std::shared_lock lock(regions_mutex_);
      listed = enlist_slots(from, to, row_bytes, slots, windows, pool);
      narrow = listed.complete;
      if (!narrow) listed = enlist_addresses(from, to, row_bytes, addresses, pool);
    }
    if (!listed.unreadable.empty()) {
      rows = rows_.acquire(listed.unreadable.size() * row_bytes, may_wait);
      const std::size_t window = windows.add(rows.pinned, listed.unreadable.size());
      const std::size_t grain = std::max<std::size_t>(1, kGrainBytes / row_bytes);
      pool.split(listed.unreadable.size(), grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t k = begin; k < end; ++k) {
          const std::size_t i = listed.unreadable[k];
          std::memcpy(rows.pinned + k * row_bytes, from[i], row_bytes);
          if (narrow)
            slots[i] = RowWindows::slot(window, k);
          else
            addresses[i] = rows.pinned + k * row_bytes;
        }
      });
      listed.bits |= reinterpret_cast<std::uint64_t>(rows.pinned);
    }
    RowCopies job{.rows = n, .row_bytes = row_bytes, .index = list.device, .out = out};
    job.vector = widest_vector(listed.bits | row_bytes | reinterpret_cast<std::uint64_t>(out));
    const std::size_t entries = n + to.size();
    std::size_t list_bytes = entries * sizeof(std::byte*);
    if (narrow) {
      job.from = From::kSlots;
      // The windows stand behind the slots, where 8 bytes are aligned again.
      const std::size_t at = (entries + entries % 2) * sizeof(std::uint32_t);
      list_bytes = at + windows.starts().size() * sizeof(std::byte*);
      std::memcpy(list.pinned + at, static_cast<const void*>(windows.starts().data()), list_bytes - at);
      job.windows = reinterpret_cast<std::byte* const*>(list.device + at);
    }
    if (!to.empty()) job.to = list.device + n * (narrow ? sizeof(std::uint32_t) : sizeof(std::byte*));
    queued = true;  // a call that fails may have queued something, too
    runtime_->copy(list.device, list.pinned, list_bytes, stream);
    runtime_->copy_rows(job, stream);
    runtime_->record(copy->event(), stream);
  } catch (...) {
    give_back(copy, queued, stream, list, rows);
    throw;
  }
  lists_.give_back(list, copy);
  if (rows.pinned != nullptr) rows_.give_back(rows, copy);
  return copy;
}

void Device::give_back(const CopyPtr& copy, bool queued, Stream stream, const UploadBlocks::Block& list,
                       const UploadBlocks::Block& rows) {
  bool known = true;  // when it is over
  if (queued) try {
      runtime_->record(copy->event(), stream);
    } catch (const DeviceLost&) {
      queued = false;  // it is
    } catch (const Error&) {
      known = false;
    }
  const CopyPtr reader = queued ? copy : nullptr;
  known ? lists_.give_back(list, reader) : lists_.abandon(list);
  if (rows.pinned == nullptr) return;
  known ? rows_.give_back(rows, reader) : rows_.abandon(rows);
}

}  // namespace rudder::cuda

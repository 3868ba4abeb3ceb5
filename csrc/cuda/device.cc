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

}  // namespace

std::shared_ptr<Device> Device::make(std::shared_ptr<Runtime> runtime) {
  return std::shared_ptr<Device>(new Device(std::move(runtime)));
}

Device::Device(std::shared_ptr<Runtime> runtime)
    : runtime_(std::move(runtime)), lists_(runtime_, true), rows_(runtime_, false) {}

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

Device::Listed Device::enlist(std::span<const std::byte* const> from, std::size_t row_bytes,
                              const std::byte** list, ThreadPool& pool) const {
  Listed all;
  std::mutex merging;
  const std::shared_lock lock(regions_mutex_);
  pool.split(from.size(), kGrainRows, [&](std::size_t begin, std::size_t end) {
    Listed piece;
    Region last{nullptr, nullptr, 0};  // neighbouring rows mostly lie in the same region
    for (std::size_t i = begin; i < end; ++i) {
      const std::byte* row = from[i];
      if (row < last.begin || row + row_bytes > last.end) {
        const auto after =
            std::upper_bound(regions_.begin(), regions_.end(), row,
                             [](const std::byte* at, const Region& other) { return at < other.begin; });
        if (after == regions_.begin() || row + row_bytes > std::prev(after)->end) {
          piece.unreadable.push_back(i);
          continue;
        }
        last = *std::prev(after);
      }
      list[i] = row;
      piece.bits |= reinterpret_cast<std::uint64_t>(row);
    }
    const std::lock_guard guard(merging);
    all.bits |= piece.bits;
    all.unreadable.insert(all.unreadable.end(), piece.unreadable.begin(), piece.unreadable.end());
  });
  return all;
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
  const std::size_t list_bytes = (n + to.size()) * sizeof(std::byte*);
  UploadBlocks::Block list = lists_.acquire(list_bytes);
  UploadBlocks::Block rows;
  auto copy = std::make_shared<Copy>(runtime_, runtime_->make_event());
  const auto give_back = [&] {
    lists_.give_back(std::move(list), copy);
    if (rows.pinned != nullptr) rows_.give_back(std::move(rows), copy);
  };
  try {
    auto** addresses = reinterpret_cast<const std::byte**>(list.pinned);
    auto** targets = reinterpret_cast<std::byte**>(list.pinned) + n;
    Listed listed = enlist(from, row_bytes, addresses, pool);
    if (!listed.unreadable.empty()) {
      rows = rows_.acquire(listed.unreadable.size() * row_bytes);
      const std::size_t grain = std::max<std::size_t>(1, kGrainBytes / row_bytes);
      pool.split(listed.unreadable.size(), grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t k = begin; k < end; ++k) {
          const std::size_t i = listed.unreadable[k];
          std::memcpy(rows.pinned + k * row_bytes, from[i], row_bytes);
          addresses[i] = rows.pinned + k * row_bytes;
        }
      });
      listed.bits |= reinterpret_cast<std::uint64_t>(rows.pinned);
    }
    for (std::size_t i = 0; i < to.size(); ++i) {
      targets[i] = to[i];
      listed.bits |= reinterpret_cast<std::uint64_t>(to[i]);
    }
    RowCopies job{.rows = n, .row_bytes = row_bytes, .index = list.device, .out = out};
    if (!to.empty()) job.to = reinterpret_cast<std::byte* const*>(list.device) + n;
    job.vector = widest_vector(listed.bits | row_bytes | reinterpret_cast<std::uint64_t>(out));
    runtime_->copy(list.device, list.pinned, list_bytes, stream);
    runtime_->copy_rows(job, stream);
    runtime_->record(copy->event(), stream);
  } catch (...) {
    give_back();
    throw;
  }
  give_back();
  return copy;
}

}  // namespace rudder::cuda

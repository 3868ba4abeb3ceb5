#include "cuda/probe.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "common/error.h"

namespace rudder::cuda {

GatherProbe::GatherProbe(std::shared_ptr<Device> device, const std::byte* rows, std::size_t count,
                         std::size_t row_bytes, std::size_t threads)
    : device_(std::move(device)),
      pageable_(rows),
      row_bytes_(row_bytes),
      pinned_(count * row_bytes, {.pinner = device_}),
      pool_(threads) {
  if (!pinned_.pinned())
    throw Error(ErrorCode::kConfig, "the table cannot be pinned: " + pinned_.pin_refusal());
  std::memcpy(pinned_.data(), rows, count * row_bytes);
  on_device_ = upload(pinned_.data(), count * row_bytes);
  if (!on_device_)
    throw Error(ErrorCode::kOutOfMemory, "the GPU has no " + std::to_string(count * row_bytes) +
                                             " bytes left for the table: name a smaller one");
}

DeviceMemory GatherProbe::upload(const std::byte* pinned, std::size_t bytes) const {
  DeviceMemory memory(device_->allocate(bytes), {device_});
  if (!memory) return memory;
  Runtime& runtime = device_->runtime();
  Copy copied(device_->shared_runtime(), runtime.make_event());
  runtime.copy(memory.get(), pinned, bytes, nullptr);
  runtime.record(copied.event(), nullptr);
  copied.wait();
  return memory;
}

const std::byte* GatherProbe::row(Tier tier, std::int64_t id) const {
  if (tier == Tier::kMixed) tier = static_cast<Tier>(id % 3);
  const std::byte* table = pageable_;
  if (tier == Tier::kDevice) table = on_device_.get();
  if (tier == Tier::kPinned) table = pinned_.data();
  return table + static_cast<std::size_t>(id) * row_bytes_;
}

void GatherProbe::gather(Tier tier, std::span<const std::int64_t> ids, std::byte* out, Stream stream) {
  from_.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) from_[i] = row(tier, ids[i]);
  device_->gather(from_, row_bytes_, out, stream, pool_);
}

void GatherProbe::list(std::span<const std::int64_t> ids, bool wide) {
  const std::size_t bytes = ids.size() * (wide ? sizeof(std::int64_t) : sizeof(std::int32_t));
  const Arena numbers(bytes, {.huge = false, .pinner = device_});
  if (wide)
    std::copy(ids.begin(), ids.end(), reinterpret_cast<std::int64_t*>(numbers.data()));
  else
    std::transform(ids.begin(), ids.end(), reinterpret_cast<std::int32_t*>(numbers.data()),
                   [](std::int64_t id) { return static_cast<std::int32_t>(id); });
  listed_.reset();
  listed_ = upload(numbers.data(), bytes);
  if (!listed_) throw Error(ErrorCode::kOutOfMemory, "the GPU has no room for a list of rows");
  listed_rows_ = ids.size();
  wide_ = wide;
}

void GatherProbe::gather_listed(Tier tier, std::byte* out, Stream stream) {
  const From from = wide_ ? From::kInt64 : From::kInt32;
  device_->runtime().copy_rows(
      rows_by_number(row(tier, 0), row_bytes_, from, listed_.get(), listed_rows_, out), stream);
}

}  // namespace rudder::cuda

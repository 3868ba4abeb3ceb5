#include "prefetcher/minibatch.h"

#include <algorithm>
#include <cstring>

namespace rudder {
namespace {

// Bytes per piece of work: large enough that handing it out costs nothing, small enough that threads finish
// together.
constexpr std::size_t kGrainBytes = std::size_t{256} << 10;
constexpr std::size_t kGrainRows = 16384;
// Rows ahead whose first lines are requested: covers a DRAM access; the hardware follows from there.
constexpr std::size_t kPrefetchAhead = 8;
constexpr std::size_t kLine = 64;

// A width known to the compiler turns the copy into straight vector moves; 0 takes the general memcpy.
template <std::size_t kWidth>
void copy_rows(const Minibatch& batch, const std::byte* local_rows, std::size_t row_bytes, std::byte* out,
               std::size_t begin, std::size_t end) {
  const std::size_t width = kWidth != 0 ? kWidth : row_bytes;
  const auto source = [&](std::size_t i) {
    const std::uint32_t place = batch.places[i];
    return (place & Minibatch::kRemote) != 0 ? batch.where[place & ~Minibatch::kRemote]
                                             : local_rows + static_cast<std::size_t>(place) * width;
  };
  for (std::size_t i = begin; i < end; ++i) {
    if (i + kPrefetchAhead < end) {
      const std::byte* ahead = source(i + kPrefetchAhead);
      __builtin_prefetch(ahead);
      if (width > kLine) __builtin_prefetch(ahead + kLine);
    }
    std::memcpy(out + i * width, source(i), width);
  }
}

}  // namespace

void Minibatch::number(std::span<const std::uint32_t> numbers) {
  std::size_t next = 0;
  for (std::uint32_t& place : places)
    if ((place & kRemote) != 0) place = kRemote | numbers[next++];
}

void Minibatch::copy(const std::byte* local_rows, std::size_t row_bytes, std::byte* out,
                     ThreadPool& pool) const {
  const std::size_t grain = std::max<std::size_t>(1, kGrainBytes / row_bytes);
  pool.split(places.size(), grain, [&](std::size_t begin, std::size_t end) {
    switch (row_bytes) {
      case 8:
        return copy_rows<8>(*this, local_rows, row_bytes, out, begin, end);
      case 256:
        return copy_rows<256>(*this, local_rows, row_bytes, out, begin, end);
      case 512:
        return copy_rows<512>(*this, local_rows, row_bytes, out, begin, end);
      default:
        return copy_rows<0>(*this, local_rows, row_bytes, out, begin, end);
    }
  });
}

void Minibatch::sources(const std::byte* local_rows, std::size_t row_bytes, std::span<const std::byte*> from,
                        ThreadPool& pool) const {
  pool.split(places.size(), kGrainRows, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint32_t place = places[i], number = place & ~kRemote;
      if ((place & kRemote) == 0)
        from[i] = local_rows + static_cast<std::size_t>(place) * row_bytes;
      else
        from[i] = on_device[number] != nullptr ? on_device[number] : where[number];
    }
  });
}

}  // namespace rudder

// Approximate counts of requests per id in fixed memory: a count-min sketch with conservative update and
// aging. It may overestimate where ids collide, never underestimate (between two agings). Thread-safety:
// none.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/types.h"

namespace rudder {

class FrequencySketch {
 public:
  // For about `rows` rows that matter.
  explicit FrequencySketch(std::size_t rows)
      : counts_(std::bit_ceil(std::max(kLeastCounters, rows * kCountersPerRow))),
        sample_(std::max<std::size_t>(rows, 1) * kSamplePerRow) {}

  std::uint8_t count(NodeId id) const {
    std::uint8_t least = kMaxCount;
    for (int probe = 0; probe < kProbes; ++probe) least = std::min(least, counts_[place(id, probe)]);
    return least;
  }

  void add(NodeId id) {
    if (const std::uint8_t least = count(id); least < kMaxCount)
      for (int probe = 0; probe < kProbes; ++probe) {
        std::uint8_t& counter = counts_[place(id, probe)];
        if (counter == least) ++counter;
      }
    if (++added_ < sample_) return;
    // Aging: half of every count, so that what was popular long ago fades.
    for (std::uint8_t& counter : counts_) counter /= 2;
    added_ = 0;
  }

 private:
  static constexpr int kProbes = 4;
  // Counts that two rows of different worth both reach tell nothing; 15 is enough to rank rows at the margin.
  static constexpr std::uint8_t kMaxCount = 15;
  // Ids seen between two agings may be ten times the capacity. With 32 counters a row the miss count stays
  // within 0.5%
  static constexpr std::size_t kCountersPerRow = 32;
  static constexpr std::size_t kLeastCounters = 4096;  // a page; tiny buffers see as many ids as others
  // Additions between two agings, per row: longer remembers more, shorter follows changes sooner.
  static constexpr std::size_t kSamplePerRow = 10;

  std::size_t place(NodeId id, int probe) const {
    // Double hashing from one 64-bit mix (the finaliser of MurmurHash3).
    auto h = static_cast<std::uint64_t>(id) + 0x9E3779B97F4A7C15ull;
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDull;
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53ull;
    h ^= h >> 33;
    return static_cast<std::size_t>(h + static_cast<std::uint64_t>(probe) * ((h >> 32) | 1)) &
           (counts_.size() - 1);
  }

  std::vector<std::uint8_t> counts_;
  std::size_t sample_;
  std::size_t added_ = 0;
};

}  // namespace rudder

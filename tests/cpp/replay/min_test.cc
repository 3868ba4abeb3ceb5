#include "replay/min.h"

#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <random>
#include <set>

#include "common/error.h"

namespace rudder {
namespace {

struct Case {
  std::vector<NodeId> ids;
  std::vector<std::int64_t> offsets{0};
};

// Small enough for brute force. `stretch` spreads the ids out; `repeats` lets a minibatch request a row
// twice.
Case random_case(std::mt19937& random, std::int64_t rows, int minibatches, std::int64_t stretch,
                 bool repeats) {
  Case made;
  for (int t = 0; t < minibatches; ++t) {
    for (std::int64_t row = 0; row < rows; ++row)
      for (int times = repeats ? 2 : 1; times-- > 0;)
        if (random() % 2 == 0) made.ids.push_back(NodeId{row * stretch});
    made.offsets.push_back(static_cast<std::int64_t>(made.ids.size()));
  }
  return made;
}

// Tries every subset that could be kept after each minibatch. Bit i stands for the i-th row.
std::uint64_t brute_force(const Case& made, std::int64_t stretch, std::size_t capacity) {
  std::map<std::uint32_t, std::uint64_t> moved_by_buffer{{0u, 0u}};
  for (std::size_t t = 0; t + 1 < made.offsets.size(); ++t) {
    std::uint32_t batch = 0;
    for (std::int64_t at = made.offsets[t]; at < made.offsets[t + 1]; ++at)
      batch |= 1u << (value(made.ids[static_cast<std::size_t>(at)]) / stretch);
    std::map<std::uint32_t, std::uint64_t> next;
    for (const auto& [buffer, moved] : moved_by_buffer) {
      const std::uint64_t now = moved + static_cast<std::uint64_t>(std::popcount(batch & ~buffer));
      const std::uint32_t at_hand = buffer | batch;
      for (std::uint32_t kept = at_hand;; kept = (kept - 1) & at_hand) {
        if (std::popcount(kept) <= static_cast<int>(capacity)) {
          const auto [at, fresh] = next.try_emplace(kept, now);
          at->second = std::min(at->second, now);
        }
        if (kept == 0) break;
      }
    }
    moved_by_buffer = std::move(next);
  }
  std::uint64_t least = ~0ull;
  for (const auto& [buffer, moved] : moved_by_buffer) least = std::min(least, moved);
  return least;
}

TEST(OfflineOptimum, EqualsBruteForce) {
  std::mt19937 random(17);
  for (int round = 0; round < 120; ++round) {
    // A wide stretch of ids is linked by sorting, a narrow one by a table.
    const std::int64_t stretch = round % 3 == 0 ? 1'000'000'007 : 1;
    const Case made = random_case(random, 5, 9, stretch, round % 2 == 0);
    const Trace trace(std::span<const NodeId>(made.ids), made.offsets);
    const OfflineOptimum optimum(trace);
    for (std::size_t capacity = 0; capacity <= 6; ++capacity)
      ASSERT_EQ(optimum.min_rows(capacity), brute_force(made, stretch, capacity))
          << "round " << round << ", capacity " << capacity;
  }
}

TEST(OfflineOptimum, LinksAlikeByTableAndBySorting) {
  std::mt19937 random(23);
  for (int round = 0; round < 20; ++round) {
    Case narrow;
    for (int t = 0; t < 60; ++t) {
      for (int i = 0; i < 30; ++i) narrow.ids.push_back(NodeId{static_cast<std::int64_t>(random() % 150)});
      narrow.offsets.push_back(static_cast<std::int64_t>(narrow.ids.size()));
    }
    Case wide = narrow;
    for (NodeId& id : wide.ids) id = NodeId{value(id) * 123'456'789'012 + 5};
    const Trace narrow_trace(std::span<const NodeId>(narrow.ids), narrow.offsets);
    const Trace wide_trace(std::span<const NodeId>(wide.ids), wide.offsets);
    const OfflineOptimum a(narrow_trace), b(wide_trace);
    EXPECT_EQ(a.requested(), b.requested());
    EXPECT_EQ(a.compulsory(), b.compulsory());
    for (const std::size_t capacity : {0, 1, 10, 40, 149, 150, 1000}) {
      EXPECT_EQ(a.min_rows(capacity), b.min_rows(capacity));
      EXPECT_EQ(a.static_rows(capacity), b.static_rows(capacity));
    }
  }
}

TEST(OfflineOptimum, MarksOfASmallTrace) {
  const std::vector<std::int32_t> ids{1, 2, 3, 1, 2, 1, 4, 1};
  const std::vector<std::int64_t> offsets{0, 3, 5, 7, 8};
  const Trace trace(std::span<const std::int32_t>(ids), offsets);
  const OfflineOptimum optimum(trace);
  EXPECT_EQ(optimum.requested(), 8u);
  EXPECT_EQ(optimum.compulsory(), 4u);
  EXPECT_EQ(optimum.static_rows(0), 8u);
  EXPECT_EQ(optimum.static_rows(1), 5u);  // row 1 is requested four times
  EXPECT_EQ(optimum.static_rows(2), 4u);
  EXPECT_EQ(optimum.min_rows(0), 8u);
  EXPECT_EQ(optimum.min_rows(1), 5u);
  EXPECT_EQ(optimum.min_rows(100), 4u);
}

TEST(OfflineOptimum, EmptyTraces) {
  const std::vector<std::int64_t> nothing{0}, two_empty{0, 0, 0};
  for (const auto& offsets : {nothing, two_empty}) {
    const Trace trace(std::span<const NodeId>{}, offsets);
    const OfflineOptimum optimum(trace);
    EXPECT_EQ(optimum.min_rows(3), 0u);
    EXPECT_EQ(optimum.compulsory(), 0u);
    EXPECT_EQ(optimum.static_rows(3), 0u);
  }
}

}  // namespace
}  // namespace rudder

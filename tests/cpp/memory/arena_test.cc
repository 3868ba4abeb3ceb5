#include "memory/arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <utility>

#include "common/error.h"
#include "memory/slab_pool.h"

namespace rudder {
namespace {

TEST(Arena, SaysWhatItGotAndCanBeWrittenToItsEnd) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{5000}, std::size_t{5} << 20}) {
    Arena arena(bytes);
    ASSERT_NE(arena.data(), nullptr);
    EXPECT_GE(arena.mapped(), bytes);
    std::memset(arena.data(), 0x5a, arena.mapped());
    EXPECT_FALSE(to_string(arena.pages()).empty());
    EXPECT_NE(arena.pinned(), !arena.pin_refusal().empty());  // pinned, or a reason why not
  }
}

TEST(Arena, NothingIsAnArenaToo) {
  const Arena arena(0);
  EXPECT_EQ(arena.data(), nullptr);
  EXPECT_EQ(arena.mapped(), 0u);
}

TEST(Arena, MovesLeaveNothingBehind) {
  Arena first(4096);
  std::byte* data = first.data();
  Arena second(std::move(first));
  EXPECT_EQ(second.data(), data);
  Arena third;
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
}

TEST(Arena, TooMuchIsATypedError) {
  try {
    const Arena arena(std::numeric_limits<std::size_t>::max() / 2);
    FAIL() << "half of the address space was granted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
  }
}

TEST(SlabPool, RecyclesSlabsAndCountsBytes) {
  const auto pool = SlabPool::make();
  std::byte* data = nullptr;
  {
    const SlabPool::Slab slab = pool->acquire(100000);
    data = slab.data();
    EXPECT_GE(pool->bytes_in_use(), 100000u);
  }
  EXPECT_EQ(pool->bytes_in_use(), 0u);
  EXPECT_GT(pool->bytes_idle(), 0u);
  {
    const SlabPool::Slab again = pool->acquire(90000);
    EXPECT_EQ(again.data(), data);
    const SlabPool::Slab other = pool->acquire(90000);
    EXPECT_NE(other.data(), data);
  }
  pool->trim(0);
  EXPECT_EQ(pool->bytes_idle(), 0u);
}

TEST(SlabPool, ASlabMayOutliveItsPoolsOwner) {
  auto pool = SlabPool::make();
  const SlabPool::Slab slab = pool->acquire(10);
  pool.reset();
  std::memset(slab.data(), 1, 10);
}

}  // namespace
}  // namespace rudder

#include "buffer/feature_buffer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

std::vector<std::byte> row(std::uint8_t fill, std::size_t bytes) {
  return std::vector<std::byte>(bytes, std::byte{fill});
}

TEST(FeatureBuffer, ReadersOfAFillingSlotGoToStaging) {
  FeatureBuffer buffer(2, 16, {});
  buffer.reserve(4);
  const auto staged = row(7, 16);
  const SlotId slot = buffer.insert(3, staged.data());
  EXPECT_TRUE(buffer.is_filling(slot));
  EXPECT_EQ(buffer.use(slot, 1), staged.data());
  ASSERT_TRUE(buffer.overwritable(slot, 0));  // nobody reads the slot itself
  buffer.fill(slot);
  EXPECT_FALSE(buffer.is_filling(slot));
  const std::byte* where = buffer.use(slot, 2);
  EXPECT_NE(where, staged.data());
  EXPECT_EQ(std::memcmp(where, staged.data(), 16), 0);
  EXPECT_FALSE(buffer.overwritable(slot, 1));
  EXPECT_TRUE(buffer.overwritable(slot, 2));
}

TEST(FeatureBuffer, ASlotKeepsItsBytesForReadersAfterItsRowLeft) {
  FeatureBuffer buffer(1, 8, {});
  buffer.reserve(2);
  const auto first = row(1, 8);
  const auto second = row(2, 8);
  const SlotId slot = buffer.insert(0, first.data());
  buffer.fill(slot);
  const std::byte* reader = buffer.use(slot, 5);
  buffer.remove(0);
  EXPECT_EQ(buffer.slot_of(0), kNoSlot);
  const SlotId again = buffer.insert(1, second.data());
  ASSERT_EQ(again, slot);
  EXPECT_FALSE(buffer.overwritable(slot, 4));
  EXPECT_EQ(std::memcmp(reader, first.data(), 8), 0);
  EXPECT_EQ(buffer.use(slot, 6), second.data());
  EXPECT_TRUE(buffer.overwritable(slot, 5));
}

TEST(FeatureBuffer, PinsHoldASlotOutsideMinibatches) {
  FeatureBuffer buffer(1, 8, {});
  buffer.reserve(1);
  const auto bytes = row(1, 8);
  const SlotId slot = buffer.insert(0, bytes.data());
  buffer.fill(slot);
  buffer.pin(slot);
  buffer.pin(slot);
  buffer.unpin(slot);
  EXPECT_FALSE(buffer.overwritable(slot, 100));
  buffer.unpin(slot);
  EXPECT_TRUE(buffer.overwritable(slot, 100));
}

TEST(FeatureBuffer, ASmallerBufferMovesItsRowsDownAndGivesMemoryBack) {
  constexpr std::size_t kSlots = 4096, kBytes = 512;
  FeatureBuffer buffer(kSlots, kBytes, {.huge = false});
  buffer.reserve(kSlots);
  std::vector<std::vector<std::byte>> rows;
  for (RowKey key = 0; key < kSlots; ++key) rows.push_back(row(static_cast<std::uint8_t>(key % 251), kBytes));
  for (RowKey key = 0; key < kSlots; ++key) buffer.fill(buffer.insert(key, rows[key].data()));
  // Every other row leaves; one that stays is being read in the upper half, by a minibatch and by a pin.
  for (RowKey key = 0; key < kSlots; key += 2) buffer.remove(key);
  RowKey watched = 1;
  while (value(buffer.slot_of(watched)) < 3000) watched += 2;
  const std::byte* read = buffer.use(buffer.slot_of(watched), 7);
  buffer.set_limit(kSlots / 2);
  EXPECT_EQ(buffer.compact(6), 0u);  // minibatch 7 still reads there
  EXPECT_EQ(buffer.held(), kSlots);
  EXPECT_EQ(std::memcmp(read, rows[watched].data(), kBytes), 0);
  EXPECT_GT(buffer.compact(7), kSlots / 2 * kBytes - 4096);
  EXPECT_EQ(buffer.held(), kSlots / 2);
  EXPECT_EQ(buffer.compact(8), 0u);
  for (RowKey key = 1; key < kSlots; key += 2) {
    ASSERT_LT(value(buffer.slot_of(key)), static_cast<int>(kSlots / 2));
    ASSERT_EQ(std::memcmp(buffer.use(buffer.slot_of(key), 8), rows[key].data(), kBytes), 0);
  }
  // It grows again: the slots above are free.
  buffer.set_limit(kSlots);
  EXPECT_EQ(buffer.held(), kSlots);
  for (RowKey key = 0; key < kSlots; key += 2) buffer.fill(buffer.insert(key, rows[key].data()));
  for (RowKey key = 0; key < kSlots; ++key)
    ASSERT_EQ(std::memcmp(buffer.use(buffer.slot_of(key), 9), rows[key].data(), kBytes), 0);
}

TEST(FeatureBuffer, BadShapesAreTypedErrors) {
  EXPECT_THROW(FeatureBuffer(1, 0, {}), Error);
  EXPECT_THROW(FeatureBuffer(std::size_t{1} << 31, 8, {}), Error);
  EXPECT_THROW(FeatureBuffer(1000, std::numeric_limits<std::size_t>::max() / 100, {}), Error);
  EXPECT_EQ(FeatureBuffer(0, 8, {}).slots(), 0u);
}

}  // namespace
}  // namespace rudder

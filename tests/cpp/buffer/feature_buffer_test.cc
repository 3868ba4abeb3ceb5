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

TEST(FeatureBuffer, BadShapesAreTypedErrors) {
  EXPECT_THROW(FeatureBuffer(1, 0, {}), Error);
  EXPECT_THROW(FeatureBuffer(std::size_t{1} << 31, 8, {}), Error);
  EXPECT_THROW(FeatureBuffer(1000, std::numeric_limits<std::size_t>::max() / 100, {}), Error);
  EXPECT_EQ(FeatureBuffer(0, 8, {}).slots(), 0u);
}

}  // namespace
}  // namespace rudder

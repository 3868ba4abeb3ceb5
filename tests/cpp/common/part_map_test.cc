#include "common/part_map.h"

#include <gtest/gtest.h>

namespace rudder {
namespace {

TEST(PartMap, FindsOwnerAndRowAlsoBesideEmptyPartitions) {
  const PartMap parts({0, 10, 10, 25}, PartId{0});
  EXPECT_EQ(parts.part_of(NodeId{0}), PartId{0});
  EXPECT_EQ(parts.part_of(NodeId{9}), PartId{0});
  EXPECT_EQ(parts.part_of(NodeId{10}), PartId{2});
  EXPECT_EQ(parts.row_of(NodeId{24}, PartId{2}), 14);
  EXPECT_EQ(parts.id_of(14, PartId{2}), NodeId{24});
  EXPECT_TRUE(parts.is_local(NodeId{9}));
  EXPECT_FALSE(parts.is_local(NodeId{10}));
  EXPECT_EQ(parts.rows(PartId{1}), 0);
}

TEST(PartMap, RefusesWhatIsNoPartition) {
  EXPECT_THROW(PartMap({0}, PartId{0}), Error);
  EXPECT_THROW(PartMap({1, 5}, PartId{0}), Error);
  EXPECT_THROW(PartMap({0, 5, 4}, PartId{0}), Error);
  EXPECT_THROW(PartMap({0, 5}, PartId{1}), Error);
  EXPECT_THROW(PartMap({0, 5}, PartId{-1}), Error);
}

}  // namespace
}  // namespace rudder

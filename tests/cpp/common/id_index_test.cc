#include "common/id_index.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

class IdIndexTest : public testing::TestWithParam<IdIndex::Kind> {};

TEST_P(IdIndexTest, AgreesWithAMapUnderRandomTraffic) {
  const std::uint64_t seed = 7;
  RecordProperty("seed", static_cast<int>(seed));
  std::mt19937_64 random(seed);
  constexpr std::int64_t kSpace = 20000;
  IdIndex index(kSpace, GetParam());
  std::unordered_map<std::int64_t, RowKey> model;
  for (int step = 0; step < 200000; ++step) {
    const auto id = static_cast<std::int64_t>(random() % kSpace);
    const auto found = model.find(id);
    if (found == model.end()) {
      ASSERT_EQ(index.find(NodeId{id}), kNoRow) << "step " << step;
      const auto key = static_cast<RowKey>(random() % 1000000);
      index.insert(NodeId{id}, key);
      model[id] = key;
    } else {
      ASSERT_EQ(index.find(NodeId{id}), found->second) << "step " << step;
      if (random() % 2 == 0) {
        index.erase(NodeId{id});
        model.erase(found);
      }
    }
    ASSERT_EQ(index.size(), model.size());
  }
  // Many at once agree with one by one.
  std::vector<NodeId> ids;
  for (std::int64_t id = 0; id < kSpace; ++id) ids.push_back(NodeId{id});
  std::vector<RowKey> keys(ids.size());
  index.find(ids, keys);
  for (std::int64_t id = 0; id < kSpace; ++id) {
    const auto found = model.find(id);
    ASSERT_EQ(keys[static_cast<std::size_t>(id)], found == model.end() ? kNoRow : found->second);
  }
}

TEST_P(IdIndexTest, ClusteredIdsSurviveDeletionInTheMiddleOfAProbe) {
  IdIndex index(1 << 20, GetParam());
  for (std::int64_t id = 0; id < 4000; ++id) index.insert(NodeId{id}, static_cast<RowKey>(id));
  for (std::int64_t id = 0; id < 4000; id += 3) index.erase(NodeId{id});
  for (std::int64_t id = 0; id < 4000; ++id)
    ASSERT_EQ(index.find(NodeId{id}), id % 3 == 0 ? kNoRow : static_cast<RowKey>(id));
}

TEST_P(IdIndexTest, ACopyHoldsTheSameAndIsOnItsOwn) {
  IdIndex index(1 << 20, GetParam());
  for (std::int64_t id = 0; id < 6000; ++id) index.insert(NodeId{id * 170}, static_cast<RowKey>(id));
  IdIndex copy(index);
  for (std::int64_t id = 0; id < 6000; id += 2) index.erase(NodeId{id * 170});
  index.insert(NodeId{1}, 77);
  EXPECT_EQ(copy.size(), 6000u);
  EXPECT_EQ(copy.bytes(), IdIndex(copy).bytes());
  for (std::int64_t id = 0; id < 6000; ++id) ASSERT_EQ(copy.find(NodeId{id * 170}), static_cast<RowKey>(id));
  EXPECT_EQ(copy.find(NodeId{1}), kNoRow);
  copy = index;
  EXPECT_EQ(copy.find(NodeId{0}), kNoRow);
  EXPECT_EQ(copy.find(NodeId{1}), 77u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, IdIndexTest, testing::Values(IdIndex::Kind::kDirect, IdIndex::Kind::kHash),
                         [](const auto& info) {
                           return info.param == IdIndex::Kind::kDirect ? "direct" : "hash";
                         });

TEST(IdIndex, PicksADirectTableForSmallSpacesOnly) {
  EXPECT_EQ(IdIndex(1000).kind(), IdIndex::Kind::kDirect);
  EXPECT_EQ(IdIndex(IdIndex::kDirectLimit + 1).kind(), IdIndex::Kind::kHash);
  EXPECT_THROW(IdIndex(-1), Error);
}

TEST(IdIndex, HashTakesIdsFarBeyondTheDirectLimit) {
  IdIndex index(std::int64_t{1} << 60);
  const NodeId id{(std::int64_t{1} << 60) - 1};
  index.insert(id, 5);
  EXPECT_EQ(index.find(id), 5u);
}

}  // namespace
}  // namespace rudder

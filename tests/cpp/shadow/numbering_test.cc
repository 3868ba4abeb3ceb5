#include "shadow/numbering.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

using Numbers = std::vector<std::int64_t>;

std::vector<NodeId> ids(std::initializer_list<std::int64_t> values) {
  std::vector<NodeId> out;
  for (const auto value : values) out.push_back(NodeId{value});
  return out;
}

TEST(Numbering, NumbersComeInOrderThoseOfOneMinibatchBySize) {
  Numbering some;
  EXPECT_EQ(some.of(ids({70, 5, 9})), (Numbers{0, 1, 2}));
  EXPECT_EQ(some.ids(), ids({5, 9, 70}));
  EXPECT_EQ(some.of(ids({9, 1, 9, 70})), (Numbers{3, 1, 2}));
  EXPECT_EQ(some.ids(), ids({5, 9, 70, 1}));
  EXPECT_EQ(some.of({}), Numbers{});
}

TEST(Numbering, AnyIdThatIsNotBelowZero) {
  Numbering some;
  const std::int64_t largest = std::numeric_limits<std::int64_t>::max() - 1;
  EXPECT_EQ(some.of(ids({largest, 0})), (Numbers{0, 1}));
  EXPECT_EQ(some.ids(), ids({0, largest}));
  EXPECT_THROW(some.of(ids({3, -1})), Error);
  EXPECT_EQ(some.ids().size(), 2u);
}

TEST(Numbering, EqualsATableById) {
  std::mt19937_64 random(7);
  Numbering some;
  std::map<std::int64_t, std::int64_t> table;
  for (int minibatch = 0; minibatch < 200; ++minibatch) {
    std::vector<NodeId> asked;
    std::set<std::int64_t> distinct;
    for (int i = 0; i < 100; ++i) {
      const auto id = static_cast<std::int64_t>(random() % 5000) * 1'000'003;
      asked.push_back(NodeId{id});
      distinct.insert(id);
    }
    Numbers expected;
    for (const std::int64_t id : distinct)
      expected.push_back(table.try_emplace(id, static_cast<std::int64_t>(table.size())).first->second);
    ASSERT_EQ(some.of(asked), expected);
  }
  ASSERT_EQ(some.ids().size(), table.size());
}

}  // namespace
}  // namespace rudder

#include "policy/ghost.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace rudder {
namespace {

TEST(Ghost, RemembersTheLast) {
  Ghost ghost(2);
  for (const std::int64_t id : {1, 2, 3}) ghost.remember(NodeId{id});
  EXPECT_FALSE(ghost.take(NodeId{1}));
  EXPECT_TRUE(ghost.take(NodeId{3}));
  EXPECT_FALSE(ghost.take(NodeId{3}));
  ghost.set_capacity(0);
  EXPECT_EQ(ghost.size(), 0u);
  ghost.remember(NodeId{4});
  EXPECT_EQ(ghost.size(), 0u);
}

TEST(Ghost, EqualsAQueueThatIsSearched) {
  Ghost ghost(10);
  std::deque<std::int64_t> queue;
  std::mt19937 random(3);
  for (int i = 0; i < 5000; ++i) {
    const auto id = static_cast<std::int64_t>(random() % 30);
    const auto at = std::find(queue.begin(), queue.end(), id);
    ASSERT_EQ(ghost.take(NodeId{id}), at != queue.end());
    if (at != queue.end()) queue.erase(at);
    if (random() % 3 == 0) continue;
    ghost.remember(NodeId{id});
    queue.push_back(id);
    if (queue.size() > 10) queue.pop_front();
    ASSERT_EQ(ghost.size(), queue.size());
  }
}

}  // namespace
}  // namespace rudder

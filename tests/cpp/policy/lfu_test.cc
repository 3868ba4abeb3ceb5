#include "policy/lfu.h"

#include <gtest/gtest.h>

#include "policy/reference.h"

namespace rudder {
namespace {

using namespace rudder::testing;

struct LfuReference {
  std::size_t capacity;
  Ids order;  // longest not requested first
  std::map<std::int64_t, int> count;
  bool contains(std::int64_t id) const { return has(order, id); }
  void touch(std::int64_t id) {
    take(order, id);
    order.push_back(id);
    ++count[id];
  }
  void offer(std::int64_t id) {
    if (order.size() == capacity)
      order.erase(std::min_element(order.begin(), order.end(),
                                   [this](std::int64_t a, std::int64_t b) { return count[a] < count[b]; }));
    order.push_back(id);
    count[id] = 1;
  }
};

TEST(Lfu, EqualsTheReference) { expect_same_buffers<LfuReference>("lfu"); }

TEST(Lfu, FindsTheLeastCountAfterErasing) {
  PolicyHarness buffer({.name = "lfu", .capacity = 2});
  for (int i = 0; i < 50; ++i) buffer.step({1});
  buffer.step({2});
  buffer.erase(2);
  buffer.step({3});
  buffer.step({4});
  EXPECT_EQ(buffer.cached(), (std::set<std::int64_t>{1, 4}));
}

}  // namespace
}  // namespace rudder

#include "policy/lru.h"

#include <gtest/gtest.h>

#include "policy/reference.h"

namespace rudder {
namespace {

using namespace rudder::testing;

struct LruReference {
  std::size_t capacity;
  Ids order;  // longest not requested first
  bool contains(std::int64_t id) const { return has(order, id); }
  void touch(std::int64_t id) {
    take(order, id);
    order.push_back(id);
  }
  void offer(std::int64_t id) {
    if (order.size() == capacity) order.pop_front();
    order.push_back(id);
  }
};

TEST(Lru, EqualsTheReference) { expect_same_buffers<LruReference>("lru"); }

TEST(Lru, HitsAreTouchedBeforeMissesEvict) {
  PolicyHarness buffer({.name = "lru", .capacity = 2});
  buffer.step({1, 2});
  buffer.step({3, 1});  // 1 is touched first, so 3 pushes out 2 though it comes before 1
  EXPECT_EQ(buffer.cached(), (std::set<std::int64_t>{1, 3}));
}

}  // namespace
}  // namespace rudder

#include "policy/sieve.h"

#include <gtest/gtest.h>

#include "policy/reference.h"

namespace rudder {
namespace {

using namespace rudder::testing;

struct SieveReference {
  std::size_t capacity;
  Ids queue;  // oldest first
  std::set<std::int64_t> marked;
  std::size_t hand = 0;
  bool contains(std::int64_t id) const { return has(queue, id); }
  void touch(std::int64_t id) { marked.insert(id); }
  void offer(std::int64_t id) {
    if (queue.size() == capacity) {
      for (hand %= queue.size(); marked.erase(queue[hand]) > 0;) hand = (hand + 1) % queue.size();
      queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(hand));
      if (hand == queue.size()) hand = 0;  // beyond the newest: begin again with the oldest
    }
    queue.push_back(id);
  }
};

TEST(Sieve, EqualsTheReference) { expect_same_buffers<SieveReference>("sieve"); }

TEST(Sieve, TheHandSurvivesErasureOfItsRow) {
  PolicyHarness buffer({.name = "sieve", .capacity = 3});
  buffer.step({1, 2, 3});
  buffer.step({1});
  buffer.step({4});  // passes 1, evicts 2, stays before 3
  EXPECT_EQ(buffer.cached(), (std::set<std::int64_t>{1, 3, 4}));
  buffer.erase(3);
  buffer.step({5});
  buffer.step({6});  // goes on with 4
  EXPECT_EQ(buffer.cached(), (std::set<std::int64_t>{1, 5, 6}));
}

}  // namespace
}  // namespace rudder

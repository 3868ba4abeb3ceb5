#include "policy/static.h"

#include <gtest/gtest.h>

#include "policy/harness.h"
#include "policy/top_rows.h"

namespace rudder {
namespace {

using namespace rudder::testing;
using Set = std::set<std::int64_t>;

std::shared_ptr<const Prior> worth(std::vector<float> of_rows) { return Prior::from_worth(of_rows); }

TEST(Static, KeepsTheBestFromTheirFirstMissOn) {
  PolicyHarness buffer({.name = "static-vip", .capacity = 2, .prior = worth({1, 5, 3, 5, 0})});
  buffer.step({0, 1, 2});
  EXPECT_EQ(buffer.cached(), (Set{1}));
  buffer.step({4, 3});
  EXPECT_EQ(buffer.cached(), (Set{1, 3}));
  for (int i = 0; i < 5; ++i) buffer.step({0, 2, 4});
  EXPECT_EQ(buffer.cached(), (Set{1, 3}));
}

TEST(Static, WithoutAPriorTheFirstToCome) {
  PolicyHarness buffer({.name = "static-degree", .capacity = 2});
  buffer.step({9, 8, 7});
  EXPECT_EQ(buffer.cached(), (Set{8, 9}));
}

TEST(Static, ANewPriorChangesTheSet) {
  PolicyHarness buffer({.name = "static-vip", .capacity = 2, .prior = worth({9, 8, 1, 1})});
  buffer.step({0, 1});
  buffer.set_prior(worth({1, 8, 1, 9}));
  EXPECT_EQ(buffer.step({0, 3}), (Set{0}));  // 0 is a hit for the last time
  EXPECT_EQ(buffer.cached(), (Set{1, 3}));
}

TEST(Static, CapacityChoosesAnew) {
  PolicyHarness buffer({.name = "static-vip", .capacity = 3, .prior = worth({3, 9, 6, 1})});
  buffer.step({0, 1, 2, 3});
  buffer.set_capacity(1);
  EXPECT_EQ(buffer.cached(), (Set{1}));
  buffer.set_capacity(2);
  buffer.step({0, 2, 3});
  EXPECT_EQ(buffer.cached(), (Set{1, 2}));
}

TEST(Static, PrefillFetchesTheSetAtOnce) {
  PolicyHarness buffer(
      {.name = "static-degree", .capacity = 3, .prior = worth({4, 0, 7, 0}), .prefill = true});
  buffer.step({});
  EXPECT_EQ(buffer.cached(), (Set{0, 2}));  // rows of worth 0 are not fetched for their own sake
  EXPECT_EQ(buffer.replaced(), 2u);
}

TEST(StaticFrequency, CountsAnEpochThenKeepsTheMostRequested) {
  PolicyHarness buffer({.name = "static-frequency", .capacity = 2, .observe = 4});
  buffer.step({1, 2, 3, 4});
  EXPECT_EQ(buffer.cached(), (Set{1, 2}));  // while it counts: the first to come
  buffer.step({4, 3});
  buffer.step({3, 2});
  buffer.step({4});
  EXPECT_EQ(buffer.cached(), (Set{1, 2}));
  buffer.step({3, 4});
  EXPECT_EQ(buffer.cached(), (Set{3, 4}));
  buffer.set_capacity(3);
  buffer.step({1, 2});
  EXPECT_EQ(buffer.cached(), (Set{2, 3, 4}));  // the count serves other capacities too
}

TEST(StaticFrequency, TheEndOfTheCountMayBeSaidLater) {
  PolicyHarness buffer({.name = "static-frequency", .capacity = 1});
  buffer.step({1});
  buffer.step({2});
  buffer.policy().observe(4);
  buffer.step({});  // asks for nothing, and counts for nothing
  buffer.step({2});
  EXPECT_EQ(buffer.step({1}), (Set{1}));  // still what came first; the fourth ends the count: twice each
  buffer.step({2, 3});
  EXPECT_EQ(buffer.cached(), (Set{1}));  // ties go to the lower id
}

TEST(StaticFrequency, ACountOfMoreThanWasWantedEndsAtOnce) {
  PolicyHarness buffer({.name = "static-frequency", .capacity = 1});
  buffer.step({1});
  for (int i = 0; i < 2; ++i) buffer.step({2});
  buffer.policy().observe(1);
  EXPECT_EQ(buffer.step({1}), (Set{1}));  // a hit for the last time
  buffer.step({2});
  EXPECT_EQ(buffer.cached(), (Set{2}));
  for (int i = 0; i < 9; ++i) buffer.step({1});
  buffer.policy().observe(1);  // the count is over: nothing is chosen anew
  buffer.step({1});
  EXPECT_EQ(buffer.cached(), (Set{2}));
}

TEST(TopRows, TiesGoToTheLowerId) {
  const auto prior = worth({0, 2, 5, 2, 2, 5});
  EXPECT_EQ(top_rows(*prior, 3, false), (std::vector{NodeId{1}, NodeId{2}, NodeId{5}}));
  EXPECT_EQ(top_rows(*prior, 0, false), std::vector<NodeId>{});
  EXPECT_EQ(top_rows(*prior, 99, false).size(), 6u);
  EXPECT_EQ(top_rows(*prior, 99, true).size(), 5u);
}

TEST(TopRows, EqualsSorting) {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> of_rows(200);
    for (float& w : of_rows) w = static_cast<float>(random() % 40) * (round % 2 == 0 ? 1e-30f : 0.37f);
    std::vector<NodeId> sorted;
    for (std::int64_t id = 0; id < 200; ++id) sorted.push_back(NodeId{id});
    std::stable_sort(sorted.begin(), sorted.end(), [&](NodeId a, NodeId b) {
      return of_rows[static_cast<std::size_t>(a)] > of_rows[static_cast<std::size_t>(b)];
    });
    sorted.resize(random() % 200);
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(top_rows(*worth(of_rows), sorted.size(), false), sorted);
  }
}

}  // namespace
}  // namespace rudder

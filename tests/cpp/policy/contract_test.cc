// What policy.h promises, asked of every policy by name. The harness checks every ENSURES after every call; a
// new policy is held to all of it by its line in registry.cc.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "common/error.h"
#include "policy/harness.h"

namespace rudder {
namespace {

using rudder::testing::PolicyHarness;
using rudder::testing::Traffic;

class PolicyContract : public ::testing::TestWithParam<std::string> {
 protected:
  PolicyConfig config(std::size_t capacity) {
    return {.name = GetParam(), .capacity = capacity, .observe = 5, .period = 3, .alpha = 0.3};
  }
  // Does it keep every row that it was offered, given the room?
  bool keeps_all() const { return GetParam() != "none" && GetParam() != "score"; }
};

INSTANTIATE_TEST_SUITE_P(Policies, PolicyContract, ::testing::ValuesIn(policy_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(PolicyContract, HasItsNameAndASummary) {
  PolicyHarness buffer(config(4));
  EXPECT_EQ(buffer.policy().name(), GetParam());
  EXPECT_FALSE(policy_summary(GetParam()).empty());
  EXPECT_EQ(buffer.policy().size(), 0u);
}

TEST_P(PolicyContract, CapacityOfZeroKeepsNothing) {
  PolicyHarness buffer(config(0));
  for (int i = 0; i < 12; ++i) EXPECT_TRUE(buffer.step({1, 2, 3}).empty());
  EXPECT_EQ(buffer.policy().size(), 0u);
}

TEST_P(PolicyContract, CapacityOfOne) {
  PolicyHarness buffer(config(1));
  for (int i = 0; i < 12; ++i) buffer.step({1});
  if (keeps_all()) EXPECT_EQ(buffer.missed(), 1u);
  for (int i = 0; i < 12; ++i) buffer.step({i, 20 + i, 40});
}

TEST_P(PolicyContract, CapacityBelowOneMinibatch) {
  PolicyHarness buffer(config(3));
  for (std::int64_t i = 0; i < 20; ++i) buffer.step({i % 3, 10, 20 + i % 2, 30, 40, 50, 60 + i});
}

TEST_P(PolicyContract, EmptyMinibatches) {
  PolicyHarness buffer(config(3));
  buffer.step({});
  buffer.step({1, 2});
  const auto before = buffer.cached();
  buffer.step({});
  EXPECT_EQ(buffer.cached(), before);
}

TEST_P(PolicyContract, RoomForAllMovesEachRowOnce) {
  PolicyHarness buffer(config(10));
  for (int round = 0; round < 4; ++round) {
    buffer.step({0, 1, 2, 3, 4});
    buffer.step({5, 6, 7, 8, 9});
  }
  if (keeps_all()) EXPECT_EQ(buffer.missed(), 10u);
}

TEST_P(PolicyContract, CapacityGrowsAndShrinks) {
  PolicyHarness buffer(config(6));
  Traffic traffic(1, 30, 8);
  for (const std::size_t capacity : {6, 2, 0, 9, 40, 1, 5}) {
    buffer.set_capacity(capacity);
    for (int i = 0; i < 20; ++i) buffer.step(traffic.minibatch());
  }
}

TEST_P(PolicyContract, ErasedRowsAreMissed) {
  PolicyHarness buffer(config(8));
  Traffic traffic(2, 20, 6);
  for (int i = 0; i < 60; ++i) {
    buffer.step(traffic.minibatch());
    if (buffer.cached().empty()) continue;
    const std::int64_t id = *buffer.cached().begin();
    buffer.erase(id);
    EXPECT_FALSE(buffer.step({id}).contains(id));
  }
}

TEST_P(PolicyContract, RecycledKeysCarryNothingOver) {
  // Every id is new, so every key but those of cached rows serves again and again.
  PolicyHarness buffer(config(4));
  for (std::int64_t i = 0; i < 200; ++i) EXPECT_TRUE(buffer.step({3 * i, 3 * i + 1, 3 * i + 2}).empty());
}

TEST_P(PolicyContract, ForgottenWindow) {
  PolicyHarness buffer(config(4));
  Traffic traffic(3, 12, 5);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 6; ++i) buffer.foresee(traffic.minibatch());
    for (int i = 0; i < 3; ++i) buffer.execute();
    buffer.forget_window();
  }
}

TEST_P(PolicyContract, PriorChangesUnderWay) {
  PolicyHarness buffer(config(5));
  Traffic traffic(4, 25, 7);
  for (int i = 0; i < 30; ++i) {
    buffer.step(traffic.minibatch());
    if (i % 5 == 4) buffer.set_prior(i % 2 == 0 ? nullptr : traffic.prior());
  }
}

TEST_P(PolicyContract, PrefillNeedsAPrior) {
  PolicyConfig prefilled = config(5);
  prefilled.prefill = true;
  PolicyHarness without(prefilled);
  without.step({1, 2});
  EXPECT_EQ(without.replaced(), 0u);

  Traffic traffic(5, 25, 7);
  prefilled.prior = traffic.prior();
  PolicyHarness buffer(prefilled);
  for (int i = 0; i < 10; ++i) buffer.step(traffic.minibatch());
}

// Everything at once, in random order.
TEST_P(PolicyContract, RandomTraffic) {
  const char* fixed = std::getenv("RUDDER_TEST_SEED");
  const std::uint32_t first =
      fixed != nullptr ? static_cast<std::uint32_t>(std::atoll(fixed)) : std::random_device{}();
  for (std::uint32_t seed = first; seed < first + 10; ++seed) {
    SCOPED_TRACE("RUDDER_TEST_SEED=" + std::to_string(seed));
    Traffic traffic(seed, 40, 12);
    PolicyConfig settings = config(traffic.up_to(20));
    if (traffic.one_in(2)) settings.prior = traffic.prior();
    if (traffic.one_in(3)) settings.prefill = true;
    if (traffic.one_in(3)) settings.period = 0;
    PolicyHarness buffer(settings);
    std::size_t waiting = 0;
    for (int i = 0; i < 150 && !HasFailure(); ++i) {
      if (traffic.one_in(20)) buffer.set_capacity(traffic.up_to(20));
      if (traffic.one_in(20)) buffer.set_prior(traffic.prior());
      if (traffic.one_in(10)) buffer.policy().allow_replacement(traffic.one_in(2));
      if (traffic.one_in(10))
        buffer.policy().limit_replacement(static_cast<std::uint32_t>(1 + traffic.up_to(99)));
      if (traffic.one_in(10) && !buffer.cached().empty()) buffer.erase(*buffer.cached().rbegin());
      if (traffic.one_in(10)) buffer.execute_now(traffic.minibatch());
      if (traffic.one_in(25)) {
        buffer.forget_window();
        waiting = 0;
      }
      for (std::size_t more = traffic.up_to(3); more-- > 0; ++waiting) buffer.foresee(traffic.minibatch());
      for (std::size_t fewer = std::min(waiting, traffic.up_to(3)); fewer-- > 0; --waiting) buffer.execute();
    }
    EXPECT_LE(buffer.missed(), buffer.requested()) << "moved more than without a buffer";
    if (HasFailure()) return;
  }
}

// A clone and its original answer the same calls alike, and what a third one went through touches neither.
TEST_P(PolicyContract, ClonesGoTheirOwnWays) {
  for (std::uint32_t seed = 1; seed < 12 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Traffic traffic(seed, 40, 12);
    PolicyConfig settings = config(6 + traffic.up_to(12));
    if (traffic.one_in(2)) settings.prior = traffic.prior();
    if (traffic.one_in(3)) settings.prefill = true;
    PolicyHarness original(settings);
    for (std::size_t i = traffic.up_to(30); i-- > 0;) original.step(traffic.minibatch());
    for (int i = 0; i < 4; ++i) original.foresee(traffic.minibatch());

    PolicyHarness twin(original), third(original);
    EXPECT_EQ(twin.policy().name(), original.policy().name());
    EXPECT_EQ(twin.policy().capacity(), original.policy().capacity());
    for (int i = 0; i < 30; ++i) {
      const auto ids = traffic.minibatch();
      original.foresee(ids);
      twin.foresee(ids);
      EXPECT_EQ(original.execute(), twin.execute());
      EXPECT_EQ(original.cached(), twin.cached());
      third.forget_window();
      for (int more = 0; more < 3; ++more) third.step(traffic.minibatch());
      if (i == 10) third.set_capacity(2);
      if (i == 15) {
        const auto prior = traffic.prior();
        for (PolicyHarness* each : {&original, &twin}) {
          each->set_prior(prior);
          each->set_capacity(9);
        }
      }
    }
    EXPECT_EQ(original.missed(), twin.missed());
    EXPECT_EQ(original.replaced(), twin.replaced());
  }
}

TEST(PolicyRegistry, AnUnknownNameListsTheKnownOnes) {
  try {
    make_policy({.name = "clock"});
    FAIL() << "an unknown policy was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kConfig);
    for (const std::string& name : policy_names())
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << name;
  }
  EXPECT_TRUE(policy_summary("clock").empty());
}

}  // namespace
}  // namespace rudder

#include "ledger/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace rudder {
namespace {

using How = Verdict::How;

std::vector<NodeId> ids(std::initializer_list<std::int64_t> values) {
  std::vector<NodeId> out;
  for (const auto value : values) out.push_back(NodeId{value});
  return out;
}

Ledger make(std::size_t capacity, std::size_t depth = 0, std::string policy = "lookahead") {
  return Ledger({.id_space = 1000,
                 .policy = {.name = std::move(policy), .capacity = capacity, .prior = nullptr},
                 .depth = depth});
}

TEST(Ledger, PlacesNumberDistinctRows) {
  Ledger ledger = make(10);
  std::vector<std::uint32_t> places(5);
  ledger.foresee(ids({7, 8, 7, 9, 8}), places);
  EXPECT_EQ(places, (std::vector<std::uint32_t>{0, 1, 0, 2, 1}));
  const Verdict& verdict = ledger.execute();
  EXPECT_EQ(verdict.ids.size(), 3u);
  EXPECT_EQ(verdict.misses, 3u);
  std::vector<std::uint32_t> now(3);
  const Verdict& read = ledger.execute_now(ids({9, 5, 9}), now);
  EXPECT_EQ(now, (std::vector<std::uint32_t>{0, 1, 0}));
  EXPECT_EQ(read.hits, 1u);
}

TEST(Ledger, ARowNotKeptServesTheNextMinibatchesWhileStaged) {
  Ledger ledger = make(0, 2);
  for (int i = 0; i < 4; ++i) ledger.foresee(ids({1}));
  EXPECT_EQ(ledger.execute().how[0], How::kMiss);
  EXPECT_EQ(ledger.execute().how[0], How::kMerged);
  EXPECT_EQ(ledger.execute().how[0], How::kMerged);
  EXPECT_EQ(ledger.execute().how[0], How::kMiss);  // staged by minibatch 1, depth 2: it served 2 and 3
}

TEST(Ledger, ARowThatWasKeptAndSoonEvictedServesWhileStaged) {
  Ledger ledger = make(1, 2, "lru");
  for (const auto& batch : {ids({1}), ids({2}), ids({1}), ids({2}), ids({1})}) ledger.foresee(batch);
  EXPECT_EQ(ledger.execute().how[0], How::kMiss);
  EXPECT_EQ(ledger.execute().how[0], How::kMiss);  // 1 leaves
  EXPECT_EQ(ledger.execute().how[0], How::kMerged);
  EXPECT_EQ(ledger.execute().how[0], How::kMerged);
  EXPECT_EQ(ledger.execute().how[0], How::kMiss);  // fetched by minibatch 1, which served 2 and 3

  Ledger stale = make(1, 2, "lru");
  for (const auto& batch : {ids({1}), ids({2}), ids({1})}) stale.foresee(batch);
  stale.execute();
  stale.invalidate(NodeId{1});
  stale.execute();
  EXPECT_EQ(stale.execute().how[0], How::kMiss);
}

TEST(Ledger, WithoutDepthNothingIsMerged) {
  Ledger ledger = make(0, 0);
  for (int i = 0; i < 3; ++i) ledger.foresee(ids({1}));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ledger.execute().how[0], How::kMiss);
}

TEST(Ledger, KeysAreRecycled) {
  Ledger ledger = make(4, 1);
  for (std::int64_t i = 0; i < 900; ++i) {
    ledger.foresee(ids({i, (i * 7) % 900}));
    ledger.execute();
    ASSERT_LE(ledger.tracked(), 4u + 2 * 3u);
  }
  EXPECT_LE(ledger.keys(), 1024u);
  ledger.drop_pending();
}

TEST(Ledger, DroppingTheWindowForgetsUsesButNotRows) {
  Ledger ledger = make(2);
  ledger.foresee(ids({1, 2}));
  ledger.execute();
  ledger.foresee(ids({1}));
  ledger.foresee(ids({2}));
  ledger.drop_pending();
  EXPECT_TRUE(ledger.window().empty());
  EXPECT_EQ(ledger.foresee(ids({1, 2})), 4u);
  EXPECT_EQ(ledger.execute().hits, 2u);
}

TEST(Ledger, InvalidRowsAreFetchedAnew) {
  Ledger ledger = make(2, 2);
  ledger.foresee(ids({1}));
  ledger.execute();
  const RowKey row = ledger.find(NodeId{1});
  EXPECT_EQ(ledger.invalidate(NodeId{1}), row);
  EXPECT_EQ(ledger.invalidate(NodeId{1}), kNoRow);
  EXPECT_EQ(ledger.execute_now(ids({1})).misses, 1u);

  Ledger bypass = make(0, 2);
  bypass.foresee(ids({1}));
  bypass.foresee(ids({1}));
  bypass.execute();
  bypass.invalidate(NodeId{1});
  EXPECT_EQ(bypass.execute().how[0], How::kMiss);  // what was staged is stale
}

// Every policy, random calls: a model that holds what the verdicts say must agree with the ledger at each
// step.
class LedgerProperty : public testing::TestWithParam<std::string> {};

TEST_P(LedgerProperty, VerdictsAddUp) {
  for (const std::uint32_t seed : {1u, 2u, 3u, 4u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::vector<float> worth(1000);
    for (auto& w : worth) w = static_cast<float>(random() % 100);
    const std::size_t depth = random() % 3;
    Ledger ledger({.id_space = 1000,
                   .policy = {.name = GetParam(), .capacity = 40, .prior = Prior::from_worth(worth)},
                   .depth = depth});
    std::set<std::int64_t> held;
    std::size_t moved = 0, requested = 0, replaced = 0;
    const auto absorb = [&](const Verdict& verdict) {
      for (std::size_t i = 0; i < verdict.rows.size(); ++i) {
        const std::int64_t id = value(verdict.ids[i]);
        ASSERT_EQ(verdict.how[i] == How::kHit, held.contains(id)) << id;
        ASSERT_FALSE(verdict.how[i] == How::kHit && verdict.keep[i]);
      }
      std::set<RowKey> gone(verdict.evicted.begin(), verdict.evicted.end());
      ASSERT_EQ(gone.size(), verdict.evicted.size());
      std::erase_if(held, [&](std::int64_t id) { return gone.contains(ledger.find(NodeId{id})); });
      for (std::size_t i = 0; i < verdict.rows.size(); ++i)
        if (verdict.keep[i]) held.insert(value(verdict.ids[i]));
      for (const NodeId id : verdict.replaced_ids) held.insert(value(id));
      ASSERT_EQ(verdict.hits + verdict.merged + verdict.misses, verdict.rows.size());
      moved += verdict.misses;
      replaced += verdict.replaced.size();
      requested += verdict.rows.size();
    };
    for (int step = 0; step < 1500; ++step) {
      std::vector<NodeId> batch;
      for (std::size_t n = random() % 30; n > 0; --n)
        batch.push_back(NodeId{static_cast<std::int64_t>((random() % 40) * (random() % 25))});
      switch (random() % 12) {
        default:
          ledger.foresee(batch);
          break;
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
          if (!ledger.window().empty()) absorb(ledger.execute());
          break;
        case 9:
          absorb(ledger.execute_now(batch));
          break;
        case 10:
          for (const NodeId id : batch) {
            ledger.invalidate(id);
            held.erase(value(id));
          }
          break;
        case 11:
          if (random() % 4 == 0) {
            ledger.drop_pending();
          } else {
            ledger.set_capacity(random() % 60);
            const std::set<RowKey> gone(ledger.evicted().begin(), ledger.evicted().end());
            std::erase_if(held, [&](std::int64_t id) { return gone.contains(ledger.find(NodeId{id})); });
          }
          break;
      }
      if (testing::Test::HasFatalFailure()) return;
      ASSERT_EQ(held.size(), ledger.policy().size()) << "step " << step;
      ASSERT_LE(ledger.policy().size(), ledger.policy().capacity());
      for (const std::int64_t id : held) {
        const RowKey row = ledger.find(NodeId{id});
        ASSERT_NE(row, kNoRow);
        ASSERT_TRUE(ledger.cached(row));
      }
    }
    ASSERT_LE(moved, requested);  // never more than without a buffer
  }
}

// Small buffers lose rows that are still staged; none of them may cost a fetch that no buffer would save.
TEST_P(LedgerProperty, NeverMoreThanWithoutABuffer) {
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::vector<float> worth(1000);
    for (auto& w : worth) w = static_cast<float>(random() % 100);
    const std::size_t depth = 1 + random() % 4;
    std::size_t capacity = random() % 12;
    const auto open = [&](const std::string& policy) {
      return Ledger({.id_space = 1000,
                     .policy = {.name = policy, .capacity = capacity, .prior = Prior::from_worth(worth)},
                     .depth = depth});
    };
    Ledger with = open(GetParam()), without = open("none");
    std::size_t moved = 0, moved_without = 0;
    for (int step = 0; step < 400; ++step) {
      std::vector<NodeId> batch;
      for (std::size_t n = random() % 10; n > 0; --n)
        batch.push_back(NodeId{static_cast<std::int64_t>(random() % 25)});
      const auto call = random() % 20;
      if (call == 0) {
        capacity = random() % 12;
        with.set_capacity(capacity);
      } else if (call == 1) {
        for (const NodeId id : batch) {
          with.invalidate(id);
          without.invalidate(id);
        }
      } else if (call < 10 || with.window().empty()) {
        with.foresee(batch);
        without.foresee(batch);
      } else {
        const Verdict& verdict = with.execute();
        moved += verdict.misses;
        ASSERT_TRUE(verdict.replaced.empty() || GetParam() == "score");
        moved_without += without.execute().misses;
        ASSERT_LE(moved, moved_without) << "step " << step;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, LedgerProperty, testing::ValuesIn(policy_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

std::vector<NodeId> some_ids(std::mt19937& random) {
  std::vector<NodeId> out;
  for (std::size_t i = 1 + random() % 12; i-- > 0;)
    out.push_back(NodeId{static_cast<std::int64_t>(random() % 60)});
  return out;
}

TEST(Ledger, ACopyGoesOnAloneFromTheSameState) {
  std::mt19937 random(3);
  for (const std::string& policy : policy_names()) {
    SCOPED_TRACE(policy);
    Ledger original = make(12, 2, policy);
    for (int i = 0; i < 40; ++i) {
      original.foresee(some_ids(random));
      if (i % 9 != 0) original.execute();
    }
    Ledger copy(original), third(original);
    third.set_capacity(3);
    for (int i = 0; i < 60; ++i) {
      const std::vector<NodeId> next = some_ids(random);
      original.foresee(next);
      copy.foresee(next);
      third.execute_now(some_ids(random));
      const Verdict& one = original.execute();
      const Verdict& other = copy.execute();
      ASSERT_TRUE(std::ranges::equal(one.ids, other.ids));
      ASSERT_TRUE(std::ranges::equal(one.how, other.how));
      ASSERT_TRUE(std::ranges::equal(one.keep, other.keep));
      ASSERT_TRUE(std::ranges::equal(one.replaced_ids, other.replaced_ids));
      ASSERT_EQ(original.tracked(), copy.tracked());
    }
    original = third;
    EXPECT_EQ(original.policy().capacity(), 3u);
    EXPECT_EQ(original.window().rows(), third.window().rows());
  }
}

}  // namespace
}  // namespace rudder

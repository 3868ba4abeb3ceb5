// Lookahead against the rule it stands for, written out: keep the rows of nearest next use, then of highest
// prior.
#include "policy/lookahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "ledger/ledger.h"

namespace rudder {
namespace {

struct Reference {
  std::size_t capacity;
  std::map<std::int64_t, int> level;
  std::set<std::int64_t> cached;

  // `window` are the minibatches after this one. Returns the misses.
  std::size_t execute(const std::vector<std::int64_t>& ids,
                      const std::vector<std::vector<std::int64_t>>& window) {
    std::size_t misses = 0;
    std::set<std::int64_t> all = cached;
    for (const auto id : ids)
      if (all.insert(id).second) ++misses;
    const auto rank = [&](std::int64_t id) {
      for (std::size_t i = 0; i < window.size(); ++i)
        if (std::find(window[i].begin(), window[i].end(), id) != window[i].end())
          return std::pair<long, long>(static_cast<long>(i), 0);
      return std::pair<long, long>(1000000, -level[id]);
    };
    std::vector<std::int64_t> order(all.begin(), all.end());
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return rank(a) < rank(b); });
    order.resize(std::min(order.size(), capacity));
    cached = {order.begin(), order.end()};
    return misses;
  }
};

TEST(Lookahead, KeepsWhatTheRuleKeeps) {
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    constexpr std::int64_t kIds = 120;
    // Every row has a level of its own, and rows needed by the same minibatch compete only while more of them
    // than fit: compare rank multisets, not sets.
    std::vector<float> worth(kIds);
    for (std::size_t i = 0; i < kIds; ++i) worth[i] = std::exp2(static_cast<float>(i) / 8.0f);
    std::shuffle(worth.begin(), worth.end(), random);
    const auto prior = Prior::from_worth(worth);
    Reference reference{30, {}, {}};
    for (std::int64_t id = 0; id < kIds; ++id) reference.level[id] = prior->level(NodeId{id});

    Ledger ledger(
        {.id_space = kIds, .policy = {.name = "lookahead", .capacity = 30, .prior = prior}, .depth = 0});
    std::vector<std::vector<std::int64_t>> trace(400);
    for (auto& batch : trace)
      for (std::int64_t id = 0; id < kIds; ++id)
        if (random() % 6 == 0) batch.push_back(id);
    constexpr std::size_t kWindow = 3;
    std::size_t next = 0;
    for (std::size_t t = 0; t < trace.size(); ++t) {
      for (; next < trace.size() && next <= t + kWindow; ++next) {
        std::vector<NodeId> ids;
        for (const auto id : trace[next]) ids.push_back(NodeId{id});
        ledger.foresee(ids);
      }
      const std::vector<std::vector<std::int64_t>> window(trace.begin() + static_cast<long>(t) + 1,
                                                          trace.begin() + static_cast<long>(next));
      const Verdict& verdict = ledger.execute();
      const std::size_t misses = reference.execute(trace[t], window);
      ASSERT_EQ(verdict.misses, misses) << "minibatch " << t;
      // Ties are broken freely; carry the ledger's choice over.
      std::set<std::int64_t> held;
      for (std::int64_t id = 0; id < kIds; ++id)
        if (const RowKey row = ledger.find(NodeId{id}); row != kNoRow && ledger.cached(row)) held.insert(id);
      ASSERT_EQ(held.size(), reference.cached.size());
      const auto ranks = [&](const std::set<std::int64_t>& rows) {
        std::multiset<std::pair<long, long>> all;
        for (const auto id : rows) {
          long use = 1000000;
          for (std::size_t i = 0; i < window.size() && use == 1000000; ++i)
            if (std::find(window[i].begin(), window[i].end(), id) != window[i].end())
              use = static_cast<long>(i);
          all.emplace(use, use == 1000000 ? -reference.level[id] : 0);
        }
        return all;
      };
      ASSERT_EQ(ranks(held), ranks(reference.cached)) << "minibatch " << t;
      reference.cached = held;
    }
  }
}

TEST(Lookahead, ALongWindowGrowsTheRing) {
  Ledger ledger(
      {.id_space = 10000, .policy = {.name = "lookahead", .capacity = 4, .prior = nullptr}, .depth = 0});
  // Row 0 is needed now and 3000 minibatches later; the rows between are needed once.
  ledger.foresee(std::vector{NodeId{0}});
  for (std::int64_t id = 1; id < 3000; ++id) ledger.foresee(std::vector{NodeId{id}});
  ledger.foresee(std::vector{NodeId{0}});
  std::size_t misses = 0;
  while (!ledger.window().empty()) misses += ledger.execute().misses;
  EXPECT_EQ(misses, 3000u);
}

TEST(Lookahead, ANewPriorReordersWhatTheWindowDoesNotKnow) {
  std::vector<float> first{4, 3, 2, 1}, second{1, 2, 3, 4};
  Ledger ledger({.id_space = 4,
                 .policy = {.name = "lookahead", .capacity = 2, .prior = Prior::from_worth(first)},
                 .depth = 0});
  ledger.execute_now(std::vector{NodeId{0}, NodeId{1}, NodeId{2}, NodeId{3}});
  EXPECT_EQ(ledger.execute_now(std::vector{NodeId{0}, NodeId{1}}).misses, 0u);
  ledger.set_prior(Prior::from_worth(second));
  ledger.execute_now(std::vector{NodeId{2}, NodeId{3}});
  EXPECT_EQ(ledger.execute_now(std::vector{NodeId{2}, NodeId{3}}).misses, 0u);
}

}  // namespace
}  // namespace rudder

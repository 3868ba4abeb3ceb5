#include "policy/score.h"

#include <gtest/gtest.h>

#include "policy/harness.h"

namespace rudder {
namespace {

using namespace rudder::testing;
using Set = std::set<std::int64_t>;

// The published rules with a map per score, on a slot per row of capacity. Ties: higher score, then lower id.
struct ScoreReference {
  ScoreReference(std::size_t capacity, int every, double alpha)
      : period(every),
        keep(static_cast<float>(1 - alpha)),
        threshold(static_cast<float>(std::round(std::pow(1 - alpha, every) * 1000) / 1000)),
        slots(capacity, Slot{-1, 1.0f}) {}
  struct Slot {
    std::int64_t id;
    float score;
  };
  int period, executed = 0;
  float keep, threshold;
  std::vector<Slot> slots;
  std::map<std::int64_t, float> outside;

  Set cached() const {
    Set ids;
    for (const Slot& slot : slots)
      if (slot.id >= 0) ids.insert(slot.id);
    return ids;
  }

  void step(const std::vector<std::int64_t>& batch) {
    const Set before = cached();
    for (Slot& slot : slots) {
      slot.score *= keep;
      if (std::find(batch.begin(), batch.end(), slot.id) != batch.end()) slot.score /= keep;
    }
    if (++executed % period == 0 && replace()) return;
    for (const std::int64_t id : batch)
      if (!before.contains(id)) ++outside[id];
  }

  bool replace() {
    std::vector<Slot*> stale;
    for (Slot& slot : slots)
      if (slot.score < threshold) stale.push_back(&slot);
    std::stable_sort(stale.begin(), stale.end(), [](const Slot* a, const Slot* b) {
      return static_cast<std::uint64_t>(a->id) < static_cast<std::uint64_t>(b->id);  // empty slots last
    });
    std::vector<std::pair<float, std::int64_t>> best;
    for (const auto& [id, score] : outside) best.emplace_back(-score, id);
    std::sort(best.begin(), best.end());
    const std::size_t count = std::min(stale.size(), best.size());
    for (std::size_t i = 0; i < count; ++i) {
      const Slot old = std::exchange(*stale[i], Slot{best[i].second, -best[i].first});
      outside.erase(best[i].second);
      if (old.id >= 0) outside[old.id] = old.score;
    }
    return count > 0;
  }
};

TEST(Score, EqualsTheReference) {
  for (const std::size_t capacity : {1, 4, 15})
    for (const int period : {1, 3, 8}) {
      SCOPED_TRACE("capacity " + std::to_string(capacity) + ", period " + std::to_string(period));
      PolicyHarness buffer({.name = "score",
                            .capacity = capacity,
                            .period = static_cast<std::uint32_t>(period),
                            .alpha = 0.1});
      ScoreReference reference(capacity, period, 0.1);
      Traffic traffic(5, 40, 12);
      for (int step = 0; step < 300; ++step) {
        auto batch = traffic.minibatch();
        if (batch.empty()) batch = {0};
        reference.step(batch);
        buffer.step(batch);
        ASSERT_EQ(buffer.cached(), reference.cached()) << "after minibatch " << step;
      }
      EXPECT_GT(buffer.replaced(), 0u);
    }
}

TEST(Score, MissesAreNotKept) {
  PolicyHarness buffer({.name = "score", .capacity = 4, .period = 50});
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(buffer.step({1, 2}).empty());
}

TEST(Score, RowsOfLevelZeroAreNeverPutIn) {
  const std::vector<float> worth{0, 1, 0, 1};
  PolicyHarness buffer(
      {.name = "score", .capacity = 4, .prior = Prior::from_worth(worth), .period = 2, .alpha = 0.5});
  for (int i = 0; i < 10; ++i) buffer.step({0, 1, 2, 3, 9});
  EXPECT_EQ(buffer.cached(), (Set{1, 3}));
}

TEST(Score, TheControllerForbidsAndAllows) {
  PolicyHarness buffer({.name = "score", .capacity = 2, .period = 2, .alpha = 0.5});
  buffer.policy().allow_replacement(false);
  for (int i = 0; i < 10; ++i) buffer.step({1, 2});
  EXPECT_EQ(buffer.replaced(), 0u);
  buffer.policy().allow_replacement(true);
  for (int i = 0; i < 2; ++i) buffer.step({1, 2});
  EXPECT_EQ(buffer.cached(), (Set{1, 2}));
}

TEST(Score, OnDemandReplacesOncePerYes) {
  PolicyHarness buffer({.name = "score", .capacity = 1, .period = 0, .alpha = 0.1});
  for (int i = 0; i < 30; ++i) buffer.step({1});
  EXPECT_EQ(buffer.replaced(), 0u);
  buffer.policy().allow_replacement(true);
  buffer.step({1});
  EXPECT_EQ(buffer.cached(), (Set{1}));
  for (int i = 0; i < 40; ++i) buffer.step({5});  // 1 is long stale, but nobody says yes again
  EXPECT_EQ(buffer.cached(), (Set{1}));
}

TEST(Score, TheControllerLimitsTheShareThatAReplacementExchanges) {
  PolicyHarness buffer({.name = "score", .capacity = 4, .period = 4, .alpha = 0.5});
  buffer.policy().limit_replacement(50);
  for (int i = 0; i < 4; ++i) buffer.step({1, 2, 3, 4});
  EXPECT_EQ(buffer.cached(), (Set{1, 2}));
  buffer.policy().limit_replacement(10);  // less than a row: one at least
  for (int i = 0; i < 4; ++i) buffer.step({1, 2, 3, 4});
  EXPECT_EQ(buffer.cached(), (Set{1, 2, 3}));
}

TEST(Score, WhereNotAllMayGoTheLowestScoresGoFirst) {
  PolicyHarness buffer({.name = "score", .capacity = 2, .period = 0, .alpha = 0.1});
  for (int i = 0; i < 30; ++i) buffer.step({1, 2});
  buffer.policy().allow_replacement(true);
  buffer.step({1, 2});
  for (int i = 0; i < 30; ++i) buffer.step({1, 7});  // 2 falls behind...
  for (int i = 0; i < 30; ++i) buffer.step({7});     // ...and 1 is stale too, but less so
  buffer.policy().limit_replacement(50);
  buffer.policy().allow_replacement(true);
  buffer.step({7});
  EXPECT_EQ(buffer.cached(), (Set{1, 7}));
}

TEST(Score, PrefillBeginsWithTheBest) {
  const std::vector<float> worth{3, 9, 0, 5};
  PolicyHarness buffer({.name = "score", .capacity = 2, .prior = Prior::from_worth(worth), .prefill = true});
  buffer.step({});
  EXPECT_EQ(buffer.cached(), (Set{1, 3}));
  EXPECT_EQ(buffer.step({0, 1}), (Set{1}));
}

}  // namespace
}  // namespace rudder

#include "replay/replay.h"

#include <gtest/gtest.h>

#include <random>

#include "common/error.h"
#include "replay/min.h"

namespace rudder {
namespace {

// 200 minibatches of up to 40 rows out of 500, low ids more often.
class Replay : public ::testing::Test {
 protected:
  Replay() {
    std::mt19937 random(5);
    for (int t = 0; t < 200; ++t) {
      for (std::int32_t id = 0; id < 500; ++id)
        if (random() % static_cast<unsigned>(3 + id) == 0) ids_.push_back(id);
      offsets_.push_back(static_cast<std::int64_t>(ids_.size()));
    }
  }
  Trace trace() const { return {std::span<const std::int32_t>(ids_), offsets_}; }

  std::vector<std::int32_t> ids_;
  std::vector<std::int64_t> offsets_{0};
};

TEST_F(Replay, EveryPolicyLiesBetweenMinAndNoBuffer) {
  const Trace some = trace();
  const OfflineOptimum optimum(some);
  for (const std::string& name : policy_names())
    for (const std::size_t capacity : {0, 3, 20, 600}) {
      SCOPED_TRACE(name + ", capacity " + std::to_string(capacity));
      const Totals result =
          replay(some, {.policy = {.name = name, .capacity = capacity}, .window = {.minibatches = 8}});
      EXPECT_EQ(result.rows_requested, optimum.requested());
      EXPECT_EQ(result.hits + result.rows_moved - result.replacement_rows, result.rows_requested);
      EXPECT_GE(result.rows_moved, optimum.min_rows(capacity));
      if (name != "score") {
        EXPECT_LE(result.rows_moved, result.rows_requested);
        EXPECT_EQ(result.replacement_rows, 0u);
      }
    }
}

TEST_F(Replay, AWindowOverTheWholeTraceIsTheOptimum) {
  const Trace some = trace();
  const OfflineOptimum optimum(some);
  for (const std::size_t capacity : {1, 10, 50, 200})
    EXPECT_EQ(replay(some, {.policy = {.capacity = capacity}, .window = {.minibatches = 1000}}).rows_moved,
              optimum.min_rows(capacity));
}

TEST_F(Replay, AWindowInRowsReachesAsFarAsItsRows) {
  const Trace some = trace();
  const auto rows = [&](std::size_t minibatches, std::size_t in_rows) {
    return replay(some, {.policy = {.capacity = 20}, .window = {.minibatches = minibatches, .rows = in_rows}})
        .rows_moved;
  };
  EXPECT_EQ(rows(0, 1), rows(1, 0));  // at least one row beyond: one more minibatch
  EXPECT_EQ(rows(0, 1'000'000), rows(1000, 0));
  EXPECT_LT(rows(0, 500), rows(0, 0));
}

TEST_F(Replay, StagedRowsServeLaterMinibatches) {
  const std::vector<std::int32_t> ids{1, 1, 1};
  const std::vector<std::int64_t> offsets{0, 1, 2, 3};
  const Trace some(std::span<const std::int32_t>(ids), offsets);
  const Totals result = replay(some, {.policy = {.name = "none"}, .depth = 1});
  EXPECT_EQ(result.rows_moved, 2u);
  EXPECT_EQ(result.merged, 1u);
}

TEST_F(Replay, PrefillHappensBeforeTheFirstMinibatch) {
  const std::vector<float> worth{0, 1, 2};
  const std::vector<std::int32_t> ids{1, 2};
  const std::vector<std::int64_t> offsets{0, 2};
  const Trace some(std::span<const std::int32_t>(ids), offsets);
  const Totals result = replay(
      some,
      {.policy = {
           .name = "static-degree", .capacity = 1, .prior = Prior::from_worth(worth), .prefill = true}});
  EXPECT_EQ(result.hits, 1u);
  EXPECT_EQ(result.replacement_rows, 1u);
  EXPECT_EQ(result.rows_moved, 2u);
  EXPECT_EQ(result.rows_requested, 2u);
}

TEST_F(Replay, RepeatedIdsCountOnce) {
  const std::vector<std::int32_t> ids{4, 4, 5, 4};
  const std::vector<std::int64_t> offsets{0, 3, 4};
  const Trace some(std::span<const std::int32_t>(ids), offsets);
  EXPECT_EQ(replay(some, {.policy = {.name = "lru", .capacity = 9}}).rows_requested, 3u);
  EXPECT_EQ(OfflineOptimum(some).requested(), 3u);
}

TEST_F(Replay, UnknownPoliciesAreRefused) {
  EXPECT_THROW(replay(trace(), {.policy = {.name = "min"}}), Error);
}

}  // namespace
}  // namespace rudder

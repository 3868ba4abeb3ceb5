// Modelled time against cases worked out by hand.
#include "shadow/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

constexpr double kWide = 1e18;

// Every minibatch moves so many rows; remembers what the window held.
class Fixed final : public Rows {
 public:
  explicit Fixed(double moved, std::int64_t foreseen = 0) : moved_(moved), foreseen_(foreseen) {}
  void foresee(std::int64_t minibatch) override {
    EXPECT_EQ(minibatch, foreseen_) << "in order, each once";
    ++foreseen_;
  }
  double execute(std::int64_t minibatch) override {
    EXPECT_LT(minibatch, foreseen_);
    ahead.push_back(foreseen_ - minibatch - 1);
    return moved_;
  }
  std::int64_t foreseen() const { return foreseen_; }
  std::int64_t farthest() const { return std::ranges::max(ahead); }

  std::vector<std::int64_t> ahead;

 private:
  double moved_;
  std::int64_t foreseen_;
};

struct Costs {
  double sampling = 0, compute = 0, row = 0, latency = 0, requests = 10, block_bytes = 1;
};

Feed feed(int minibatches, const Costs& costs) {
  Feed some;
  for (int i = 0; i < minibatches; ++i)
    some.append({.ids = {},
                 .requests = costs.requests,
                 .block_bytes = costs.block_bytes,
                 .sampling = costs.sampling,
                 .compute = costs.compute,
                 .row_seconds = costs.row,
                 .latency = costs.latency});
  return some;
}

Pipeline run(const Feed& some, Rows& rows, std::int64_t depth = 2, double window = kWide,
             double waiting = kWide) {
  Pipeline pipeline({.depth = depth, .window_rows = window, .waiting_bytes = waiting});
  pipeline.run(some, rows, some.end());
  return pipeline;
}

TEST(Pipeline, ComputeBoundTakesAsLongAsComputing) {
  // Only the first minibatch waits: 1 to be sampled, 0.5 for 5 rows, 0.25 latency.
  Fixed rows(5);
  const Pipeline pipeline = run(feed(100, {.sampling = 1, .compute = 3, .row = 0.1, .latency = 0.25}), rows);
  EXPECT_NEAR(pipeline.clock(), 1 + 0.5 + 0.25 + 300, 1e-6);
  EXPECT_NEAR(pipeline.stalled_sampling(), 1, 1e-9);
  EXPECT_NEAR(pipeline.stalled_fetching(), 0.75, 1e-9);
  EXPECT_NEAR(pipeline.fetching(), 100 * 0.75, 1e-6);
}

TEST(Pipeline, FetchBoundTakesBytesOverBandwidth) {
  Fixed rows(8);
  const Pipeline pipeline = run(feed(100, {.compute = 1, .row = 0.5}), rows);
  EXPECT_NEAR(pipeline.clock(), 100 * 4 + 1, 1e-6);  // the last one's computing comes after its rows
  EXPECT_NEAR(pipeline.fetching(), 400, 1e-6);
}

TEST(Pipeline, SamplingBoundTakesAsLongAsSampling) {
  Fixed rows(1);
  const Pipeline pipeline = run(feed(50, {.sampling = 2, .compute = 1, .row = 0.1}), rows);
  EXPECT_NEAR(pipeline.clock(), 50 * 2 + 0.1 + 1, 1e-6);
  EXPECT_NEAR(pipeline.stalled_fetching(), 50 * 0.1, 1e-6);
  EXPECT_EQ(rows.farthest(), 0);  // nothing is ever sampled ahead
}

TEST(Pipeline, WithoutDepthFetchingFollowsComputing) {
  Fixed rows(2);
  const Pipeline pipeline = run(feed(20, {.compute = 1, .row = 0.5, .latency = 0.25}), rows, 0);
  EXPECT_NEAR(pipeline.clock(), 20 * (1 + 1 + 0.25), 1e-6);
}

TEST(Pipeline, DepthHidesLatency) {
  // 4 s of latency, 1 s of computing: a fetch begins `depth` minibatches before its turn.
  const std::pair<int, double> cases[] = {{1, 4.0}, {2, 2.0}, {4, 1.0}, {8, 1.0}};
  for (const auto& [depth, seconds] : cases) {
    Fixed rows(1);
    const Pipeline pipeline = run(feed(200, {.compute = 1, .row = 1e-9, .latency = 4}), rows, depth);
    EXPECT_NEAR(pipeline.clock() / 200, seconds, 0.05 * seconds) << depth;
  }
}

TEST(Pipeline, WindowStopsTheSampler) {
  // 10 requests a minibatch, sampled at once: three wait beside the one decided on (30 are not below 30).
  Fixed three(0), filled(0);
  run(feed(60, {.compute = 1}), three, 1, 30);
  EXPECT_EQ(std::set(three.ahead.begin() + 2, three.ahead.begin() + 50), std::set<std::int64_t>{2});
  run(feed(60, {.compute = 1}), filled, 4, 0);
  EXPECT_LE(filled.farthest(), 4);  // a pipeline is filled even where the window wants nothing
}

TEST(Pipeline, WaitingBlocksStopTheSampler) {
  const Feed some = feed(60, {.compute = 1, .block_bytes = 100});
  Fixed rows(0), wide(0), one(0);
  run(some, rows, 1, kWide, 500);
  run(some, wide, 1);
  EXPECT_LE(rows.farthest(), 5);
  EXPECT_GT(wide.farthest(), 5);
  run(some, one, 1, kWide, 1);
  EXPECT_EQ(one.foreseen(), 60);  // one may always wait
}

TEST(Pipeline, WiderWindowOpensWhenItIsSteeredNotBefore) {
  const Feed some = feed(400, {.sampling = 0.25, .compute = 1});
  Pipeline pipeline({.depth = 1, .window_rows = 20, .waiting_bytes = kWide});
  Fixed rows(0);
  pipeline.run(some, rows, 100);
  pipeline.steer(some, {.depth = 1, .window_rows = 200, .waiting_bytes = kWide});
  pipeline.run(some, rows, 200);
  // It gains three minibatches a step from step 100 on.
  EXPECT_LE(*std::max_element(rows.ahead.begin(), rows.ahead.begin() + 101), 2);
  EXPECT_LE(rows.ahead[102], 10);
  EXPECT_EQ(rows.ahead[150], 19);
  EXPECT_NEAR(pipeline.clock(), 200.25, 1e-6);
}

TEST(Pipeline, DepthSteeredUnderWay) {
  const Feed some = feed(400, {.compute = 1, .row = 1e-9, .latency = 4});
  Pipeline pipeline({.depth = 1, .window_rows = kWide, .waiting_bytes = kWide});
  Fixed rows(1);
  pipeline.run(some, rows, 100);
  const double slow = pipeline.clock();
  pipeline.steer(some, {.depth = 4, .window_rows = kWide, .waiting_bytes = kWide});
  pipeline.run(some, rows, 200);
  EXPECT_NEAR(slow, 400, 8);
  EXPECT_NEAR(pipeline.clock() - slow, 100, 6);
}

TEST(Pipeline, PauseIsTheTrainersAlone) {
  const Feed some = feed(100, {.compute = 1, .row = 0.25});  // 2 s of fetching a minibatch
  Pipeline pipeline({.depth = 2, .window_rows = kWide, .waiting_bytes = kWide});
  Fixed rows(8);
  pipeline.run(some, rows, 50);
  const double before = pipeline.clock();
  pipeline.pause(2.0);
  pipeline.run(some, rows, 51);
  EXPECT_LT(pipeline.clock() - before, 2.0 + 2.0 + 1.0);  // rows went on arriving meanwhile
}

TEST(Pipeline, CopyGoesOnAlone) {
  const Feed some = feed(900, {.sampling = 0.5, .compute = 1, .row = 0.1, .latency = 0.5});
  Pipeline pipeline({.depth = 2, .window_rows = 50, .waiting_bytes = kWide});
  Fixed rows(5);
  pipeline.run(some, rows, 700);  // long enough that old times are forgotten
  Pipeline other = pipeline;
  Fixed beside(500, rows.foreseen()), alone(5);
  other.run(some, beside, 900);
  pipeline.run(some, rows, 900);
  EXPECT_NEAR(pipeline.clock(), run(some, alone, 2, 50).clock(), 1e-6);
  EXPECT_GT(other.clock(), pipeline.clock());
}

TEST(Pipeline, DroppedSamplesAreMadeAgain) {
  const Feed some = feed(40, {.sampling = 2, .compute = 1});
  Pipeline pipeline({.depth = 1, .window_rows = kWide, .waiting_bytes = kWide});
  Fixed rows(0);
  pipeline.run(some, rows, 10);
  pipeline.pause(100);  // in which all are sampled
  pipeline.steer(some, {.depth = 1, .window_rows = kWide, .waiting_bytes = kWide});
  const double before = pipeline.clock();
  pipeline.drop();
  EXPECT_EQ(pipeline.sampled(), 10);
  Fixed again(0, 10);
  pipeline.run(some, again, 11);
  EXPECT_NEAR(pipeline.clock() - before, 2 + 1, 1e-6);
}

TEST(Pipeline, NoStageIsFasterThanItselfAndMoreNeverHurts) {
  std::mt19937_64 random(20260801);
  const auto between = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  for (int example = 0; example < 500; ++example) {
    // A third of the costs are nothing at all: corners.
    const auto cost = [&](double most) { return between(0, 3) < 1 ? 0 : between(0, most); };
    const Costs costs{.sampling = cost(3), .compute = cost(3), .row = cost(0.5), .latency = cost(5)};
    const double moved = std::floor(between(0, 11));
    const auto depth = static_cast<std::int64_t>(between(1, 7));
    const double window = std::floor(between(0, 81)), waiting = std::floor(between(1, 21));
    SCOPED_TRACE(testing::Message() << "example " << example << ": " << costs.sampling << " " << costs.compute
                                    << " " << costs.row << " " << costs.latency << " moved " << moved
                                    << " depth " << depth << " window " << window << " waiting " << waiting);
    const Feed some = feed(60, costs);
    Fixed rows(moved), deeper(moved), wider(moved);
    const double clock = run(some, rows, depth, window, waiting).clock();
    EXPECT_GE(clock, 60 * std::max({costs.sampling, costs.compute, moved * costs.row}) - 1e-6);
    EXPECT_LE(clock, 60 * (costs.sampling + costs.compute + moved * costs.row + costs.latency) + 1e-6);
    EXPECT_LE(run(some, deeper, depth + 1, window, waiting).clock(), clock + 1e-6);
    EXPECT_LE(run(some, wider, depth, window + 20, waiting + 5).clock(), clock + 1e-6);
  }
}

TEST(Pipeline, ForgottenMinibatchesAreNotNeeded) {
  const Costs costs{.sampling = 0.5, .compute = 1, .row = 0.1, .latency = 0.5};
  Feed some = feed(900, costs);
  Pipeline pipeline({.depth = 2, .window_rows = 50, .waiting_bytes = 7});
  Fixed rows(5), alone(5);
  for (std::int64_t end = 20; end <= 900; end += 20) {
    pipeline.run(some, rows, end);
    some.forget(end - 400);
  }
  EXPECT_NEAR(pipeline.clock(), run(feed(900, costs), alone, 2, 50, 7).clock(), 1e-6);
}

TEST(Pipeline, RefusesWhatTheFeedHasNot) {
  Feed some = feed(5, {});
  Pipeline pipeline({.depth = 1, .window_rows = 1, .waiting_bytes = 1});
  Fixed rows(0);
  EXPECT_THROW(pipeline.run(some, rows, 6), Error);
  EXPECT_THROW(Pipeline({.depth = -1, .window_rows = 1, .waiting_bytes = 1}), Error);
  some.forget(2);
  EXPECT_THROW(pipeline.run(some, rows, 5), Error);
}

}  // namespace
}  // namespace rudder

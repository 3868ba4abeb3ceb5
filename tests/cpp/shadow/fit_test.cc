#include "shadow/fit.h"

#include <gtest/gtest.h>

#include <vector>

namespace rudder {
namespace {

class Known final : public Rows {
 public:
  explicit Known(const std::vector<double>& moved) : moved_(moved) {}
  void foresee(std::int64_t) override {}
  double execute(std::int64_t minibatch) override { return moved_[static_cast<std::size_t>(minibatch)]; }

 private:
  const std::vector<double>& moved_;
};

Feed feed(std::size_t minibatches, double row_seconds) {
  Feed some;
  for (std::size_t t = 0; t < minibatches; ++t)
    some.append({.ids = {},
                 .requests = 10,
                 .block_bytes = 1,
                 .sampling = 0.1,
                 .compute = 1,
                 .row_seconds = row_seconds,
                 .latency = 0.05});
  return some;
}

TEST(Fit, FindsTheSpeedThatARunHad) {
  std::vector<double> moved;
  for (int t = 0; t < 64; ++t) moved.push_back(t % 5 == 0 ? 0 : 100 + t);
  for (const double truth : {1e-5, 2e-3, 0.02}) {  // hidden, part of a step, far more than one
    Feed some = feed(moved.size(), truth);
    const Pipeline begin({.depth = 2, .window_rows = 50, .waiting_bytes = 1e9});
    Pipeline pipeline = begin;
    Known rows(moved);
    pipeline.run(some, rows, 64);
    for (const double guess : {1e-5, 1e-3}) {
      const double found = row_seconds(begin, some, moved, pipeline.fetching(), guess);
      EXPECT_NEAR(found, truth, 0.01 * truth) << truth << " from " << guess;
    }
    EXPECT_EQ(begin.next(), 0);
  }
}

TEST(Fit, NothingFetchedTellsNothing) {
  Feed some = feed(4, 1e-3);
  const Pipeline begin({.depth = 2, .window_rows = 50, .waiting_bytes = 1e9});
  EXPECT_EQ(row_seconds(begin, some, std::vector<double>(4, 0.0), 1.0, 0.5), 0.5);
  EXPECT_EQ(row_seconds(begin, some, std::vector<double>(4, 10.0), 0.0, 0.5), 0.5);
}

}  // namespace
}  // namespace rudder

#include "common/prior.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

TEST(Prior, FewWorthsGetALevelEach) {
  const std::vector<float> worth{0.0f, 1e-6f, 1e-4f, 1e-2f, 1.0f, 1.0f};
  const auto prior = Prior::from_worth(worth);
  EXPECT_EQ(prior->level(NodeId{0}), 0);
  EXPECT_EQ(prior->level(NodeId{1}), 1);
  EXPECT_EQ(prior->level(NodeId{4}), prior->level(NodeId{5}));
  for (int i = 1; i < 5; ++i) EXPECT_LT(prior->level(NodeId{i - 1}), prior->level(NodeId{i}));
}

TEST(Prior, LevelsKeepTheOrderAndShareTheMass) {
  std::mt19937 random(7);
  std::vector<float> worth(20000);
  for (float& w : worth) w = std::exp(std::normal_distribution<float>(-5, 3)(random));
  std::sort(worth.begin(), worth.end());
  const auto prior = Prior::from_worth(worth);
  std::vector<double> mass(256);
  for (std::int64_t i = 0; i < 20000; ++i) {
    const float w = worth[static_cast<std::size_t>(i)];
    if (i > 0) EXPECT_LE(prior->level(NodeId{i - 1}), prior->level(NodeId{i}));
    mass[prior->level(NodeId{i})] += std::sqrt(static_cast<double>(w));
  }
  EXPECT_EQ(mass[0], 0);
  EXPECT_EQ(prior->level(NodeId{0}), 1);
  EXPECT_EQ(prior->level(NodeId{19999}), 255);
  // No level of the lower part, where rows are many, takes much more than its share.
  const double share = std::accumulate(mass.begin(), mass.end(), 0.0) / 255;
  for (int level = 1; level < 100; ++level) EXPECT_LE(mass[static_cast<std::size_t>(level)], 2 * share);
}

TEST(Prior, RowsOutsideTheTableAreWorthNothing) {
  EXPECT_EQ(Prior::from_worth(std::vector<float>{1.0f})->level(NodeId{77}), 0);
}

TEST(Prior, RefusesWorthThatCannotBeRanked) {
  for (const float bad :
       {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    EXPECT_THROW(Prior::from_worth(std::vector<float>{1.0f, bad}), Error);
}

}  // namespace
}  // namespace rudder

#include "common/prior.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

TEST(Prior, KeepsTheOrderOfWorthOnALogScale) {
  const std::vector<float> worth{0.0f, 1e-6f, 1e-4f, 1e-2f, 1.0f, 1.0f};
  const auto prior = Prior::from_worth(worth);
  EXPECT_EQ(prior->level(NodeId{0}), 0);
  EXPECT_EQ(prior->level(NodeId{1}), 1);
  EXPECT_EQ(prior->level(NodeId{5}), 255);
  EXPECT_EQ(prior->level(NodeId{4}), prior->level(NodeId{5}));
  for (int i = 1; i < 5; ++i) EXPECT_LT(prior->level(NodeId{i - 1}), prior->level(NodeId{i}));
  // Equal ratios are equally far apart.
  EXPECT_NEAR(prior->level(NodeId{3}) - prior->level(NodeId{2}), prior->level(NodeId{4}) - prior->level(NodeId{3}), 1);
}

TEST(Prior, RowsOutsideTheTableAreWorthNothing) {
  EXPECT_EQ(Prior::from_worth(std::vector<float>{1.0f})->level(NodeId{77}), 0);
}

TEST(Prior, RefusesWorthThatCannotBeRanked) {
  for (const float bad : {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    EXPECT_THROW(Prior::from_worth(std::vector<float>{1.0f, bad}), Error);
}

}  // namespace
}  // namespace rudder

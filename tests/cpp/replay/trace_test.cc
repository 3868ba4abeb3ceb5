#include "replay/trace.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace rudder {
namespace {

TEST(Trace, NarrowAndWideIdsReadAlike) {
  const std::vector<std::int32_t> narrow{7, 0, 3};
  const std::vector<NodeId> wide{NodeId{7}, NodeId{0}, NodeId{3}};
  const std::vector<std::int64_t> offsets{0, 2, 2, 3};
  std::vector<NodeId> scratch;
  for (const Trace& trace : {Trace(std::span<const std::int32_t>(narrow), offsets),
                             Trace(std::span<const NodeId>(wide), offsets)}) {
    EXPECT_EQ(trace.minibatches(), 3u);
    EXPECT_EQ(trace.accesses(), 3u);
    EXPECT_EQ(trace.id_space(), 8);
    const auto first = trace.ids(0, scratch);
    EXPECT_EQ(std::vector(first.begin(), first.end()), (std::vector{NodeId{7}, NodeId{0}}));
    EXPECT_TRUE(trace.ids(1, scratch).empty());
    EXPECT_EQ(trace.ids(2, scratch).front(), NodeId{3});
  }
}

TEST(Trace, RefusesWhatIsNoTrace) {
  const std::vector<std::int32_t> ids{1, 2}, negative{1, -2};
  const auto made = [](const std::vector<std::int32_t>& some, std::vector<std::int64_t> offsets) {
    Trace trace(std::span<const std::int32_t>(some), offsets);
  };
  EXPECT_THROW(made(ids, {}), Error);
  EXPECT_THROW(made(ids, {1, 2}), Error);
  EXPECT_THROW(made(ids, {0, 1}), Error);
  EXPECT_THROW(made(ids, {0, 3}), Error);
  EXPECT_THROW(made(ids, {0, 2, 1, 2}), Error);
  EXPECT_THROW(made(negative, {0, 2}), Error);
  EXPECT_NO_THROW(made(ids, {0, 2}));
}

}  // namespace
}  // namespace rudder

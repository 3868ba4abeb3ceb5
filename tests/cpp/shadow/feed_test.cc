#include "shadow/feed.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace rudder {
namespace {

Feed feed(int minibatches) {
  Feed some;
  for (int t = 0; t < minibatches; ++t)
    some.append({.ids = {NodeId{t}}, .requests = 10.0 + t, .block_bytes = 100.0 * t, .sampling = 0.5});
  return some;
}

TEST(Feed, SumsAreOfAllBefore) {
  const Feed some = feed(4);
  EXPECT_EQ(some.first(), 0);
  EXPECT_EQ(some.end(), 4);
  EXPECT_EQ(some.requests_until(0), 0);
  EXPECT_EQ(some.requests_until(2), 10 + 11);
  EXPECT_EQ(some.requests_until(4), 10 + 11 + 12 + 13);
  EXPECT_EQ(some.bytes_until(3), 0 + 100 + 200);
}

TEST(Feed, ForgetsFromTheFrontAndSumsStay) {
  Feed some = feed(4);
  some.forget(-3);
  EXPECT_EQ(some.first(), 0);
  some.forget(3);
  EXPECT_EQ(some.first(), 3);
  EXPECT_EQ(some.end(), 4);
  EXPECT_EQ(some[3].ids, std::vector{NodeId{3}});
  EXPECT_EQ(some.requests_until(4) - some.requests_until(3), 13);
  some.forget(100);
  EXPECT_EQ(some.first(), 4);
  EXPECT_EQ(some.end(), 4);
  some.append({.ids = {}, .requests = 1});
  EXPECT_EQ(some.requests_until(5) - some.requests_until(4), 1);
}

TEST(Feed, TruncatedGoesOnFromThere) {
  Feed some = feed(4);
  some.truncate(2);
  EXPECT_EQ(some.end(), 2);
  EXPECT_EQ(some.requests_until(2), 10 + 11);
  some.append({.ids = {NodeId{7}}, .requests = 5});
  EXPECT_EQ(some.end(), 3);
  EXPECT_EQ(some[2].ids, std::vector{NodeId{7}});
  EXPECT_EQ(some.requests_until(3), 10 + 11 + 5);
  some.truncate(9);
  EXPECT_EQ(some.end(), 3);
  some.forget(2);
  some.truncate(1);  // before what is kept
  EXPECT_EQ(some.first(), 1);
  EXPECT_EQ(some.end(), 1);
}

TEST(Feed, CostsAreOfTheMinibatchesNamed) {
  Feed some = feed(4);
  some.cost(1, 3, 2.0, 0.25, 0.125);
  some.cost(2, 4, 0.75);
  EXPECT_EQ(some[0].compute, 0);
  EXPECT_EQ(some[1].compute, 2.0);
  EXPECT_EQ(some[1].row_seconds, 0.25);
  EXPECT_EQ(some[1].latency, 0.125);
  EXPECT_EQ(some[2].row_seconds, 0.75);
  EXPECT_EQ(some[3].compute, 0);
  EXPECT_EQ(some[3].row_seconds, 0.75);
  EXPECT_THROW(some.cost(3, 5, 1.0), Error);
  EXPECT_THROW(some.cost(-1, 2, 1.0, 1.0, 1.0), Error);
  EXPECT_NO_THROW(some.cost(9, 9, 1.0));
}

TEST(Feed, PassedByKeepsNothing) {
  Feed some;
  some.pass_by();
  some.pass_by();
  EXPECT_EQ(some.first(), 2);
  EXPECT_EQ(some.end(), 2);
  some.append({.ids = {}, .requests = 3});
  EXPECT_EQ(some.requests_until(3), 3);
  EXPECT_THROW(some.pass_by(), Error);
}

TEST(Feed, RenumberedHasOtherIds) {
  Feed some = feed(2);
  some.renumber(1, std::vector{NodeId{8}, NodeId{9}});
  EXPECT_EQ(some[1].ids, (std::vector{NodeId{8}, NodeId{9}}));
  EXPECT_EQ(some.requests_until(2), 10 + 11);
  EXPECT_THROW(some.renumber(2, {}), Error);
}

}  // namespace
}  // namespace rudder

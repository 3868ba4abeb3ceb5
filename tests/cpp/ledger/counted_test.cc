#include "ledger/counted.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace rudder {
namespace {

std::vector<NodeId> ids(std::initializer_list<std::int64_t> values) {
  std::vector<NodeId> out;
  for (const auto value : values) out.push_back(NodeId{value});
  return out;
}

CountedLedger make() {
  return CountedLedger(
      {.id_space = 10, .policy = {.name = "lru", .capacity = 2, .prior = nullptr}, .depth = 0});
}

TEST(CountedLedger, TotalsAreOfAllMinibatches) {
  CountedLedger ledger = make();
  ledger.foresee(ids({1, 2}));
  EXPECT_EQ(ledger.execute(), 2u);
  EXPECT_EQ(ledger.read(ids({2, 3})), 1u);
  EXPECT_EQ(ledger.minibatches(), 2u);
  EXPECT_EQ(ledger.totals().rows_requested, 4u);
  EXPECT_EQ(ledger.totals().hits, 1u);
  EXPECT_EQ(ledger.totals().rows_moved, 3u);
  EXPECT_EQ(ledger.rows_evicted(), 1u);
  ledger.steer({.capacity = 1});
  EXPECT_EQ(ledger.rows_evicted(), 2u);
  ledger.invalidate(ids({2, 3}));
  EXPECT_EQ(ledger.rows_evicted(), 3u);  // the one that was left
}

TEST(CountedLedger, CopyGoesOnAlone) {
  CountedLedger ledger = make();
  ledger.read(ids({1, 2}));
  CountedLedger other = ledger;
  EXPECT_EQ(other.read(ids({1, 2})), 0u);
  other.read(ids({5, 6}));
  EXPECT_EQ(ledger.minibatches(), 1u);
  EXPECT_EQ(ledger.read(ids({1, 2})), 0u);
}

TEST(CountedLedger, RefusesWhatTheLedgerRequires) {
  CountedLedger ledger = make();
  EXPECT_THROW(ledger.foresee(ids({1, 10})), Error);
  EXPECT_THROW(ledger.read(ids({-1})), Error);
  EXPECT_THROW(ledger.invalidate(ids({10})), Error);
  EXPECT_THROW(ledger.execute(), Error);
  EXPECT_EQ(ledger.minibatches(), 0u);
}

}  // namespace
}  // namespace rudder

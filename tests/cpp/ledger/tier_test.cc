// The tier of the ledger: always rows of the buffer, never more than it may hold, and told of change by
// change.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "ledger/ledger.h"

namespace rudder {
namespace {

class Told {
 public:
  void hear(const Verdict& verdict) {
    leave(verdict.evicted);
    leave(verdict.lowered);
    for (const RowKey row : verdict.raised) EXPECT_TRUE(rows_.insert(row).second) << "raised twice";
  }
  void leave(std::span<const RowKey> gone) {
    for (const RowKey row : gone) rows_.erase(row);
  }
  void check(const Ledger& ledger, std::size_t most) const {
    EXPECT_EQ(rows_.size(), ledger.tier_size());
    EXPECT_LE(rows_.size(), most);
    for (const RowKey row : rows_) EXPECT_TRUE(ledger.cached(row));
  }
  std::size_t size() const { return rows_.size(); }

 private:
  std::set<RowKey> rows_;
};

TEST(Tier, HoldsTheBestRowsOfTheBufferWhateverHappensToIt) {
  for (const std::string& policy : policy_names())
    for (const std::uint32_t seed : {1u, 2u, 3u}) {
      SCOPED_TRACE(policy + " " + std::to_string(seed));
      std::mt19937 random(seed);
      Ledger ledger({.id_space = 400,
                     .policy = {.name = policy, .capacity = 90, .prior = nullptr, .period = 4},
                     .depth = 2});
      Told told;
      std::size_t most = 30, fullest = 0;
      ledger.set_tier(most);
      for (int step = 0; step < 200; ++step) {
        std::vector<NodeId> ids(random() % 60);
        for (auto& id : ids) id = NodeId{static_cast<std::int64_t>((random() % 20) * (random() % 20))};
        switch (random() % 12) {
          case 0:
            told.hear(ledger.execute_now(ids));
            break;
          case 1:
            most = random() % 60;
            ledger.set_tier(most);
            told.leave(ledger.lowered());
            break;
          case 2:
            ledger.set_capacity(40 + random() % 60);
            told.leave(ledger.evicted());
            break;
          case 3:
            for (const NodeId id : ids)
              if (const RowKey row = ledger.invalidate(id); row != kNoRow) told.leave({&row, 1});
            break;
          case 4:
            ledger.drop_pending();
            break;
          default:
            ledger.foresee(ids);
            if (ledger.window().minibatches() > 3) told.hear(ledger.execute());
        }
        told.check(ledger, most);
        fullest = std::max(fullest, told.size());
      }
      if (policy != "none") {
        EXPECT_GT(fullest, 0u);
      }
    }
}

// The row that is used again soonest belongs on the device, as it belongs in the buffer.
TEST(Tier, IsChosenByTheSamePolicy) {
  Ledger ledger(
      {.id_space = 10, .policy = {.name = "lookahead", .capacity = 4, .prior = nullptr}, .depth = 0});
  ledger.set_tier(1);
  for (const std::vector<std::int64_t>& minibatch : {std::vector<std::int64_t>{1, 2, 3}, {3}, {2}, {1}}) {
    std::vector<NodeId> ids;
    for (const std::int64_t id : minibatch) ids.push_back(NodeId{id});
    ledger.foresee(ids);
  }
  const Verdict& verdict = ledger.execute();
  ASSERT_EQ(verdict.raised.size(), 1u);
  EXPECT_EQ(verdict.raised[0], ledger.find(NodeId{3}));
}

}  // namespace
}  // namespace rudder

#include "replay/log.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

using Ids = std::vector<NodeId>;

Ids ids(std::initializer_list<std::int64_t> numbers) {
  Ids answer;
  for (const std::int64_t number : numbers) answer.push_back(static_cast<NodeId>(number));
  return answer;
}

LedgerConfig ledger(const char* policy, std::size_t capacity, std::size_t depth = 0) {
  LedgerConfig config;
  config.id_space = 100;
  config.policy.name = policy;
  config.policy.capacity = capacity;
  config.depth = depth;
  return config;
}

void expect_format_error(const std::vector<LogCall>& calls) {
  try {
    replay_log(calls, {}, ledger("lru", 2));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFormat);
  }
}

TEST(ReplayLog, CountsTheRowsOfEveryKindOfCall) {
  const Ids a = ids({1, 2}), b = ids({2, 3}), two = ids({2});
  std::vector<LogCall> calls = {
      {"foresee", 1, a},  {"foresee", 2, b}, {"execute", 1, {}},  // 1 and 2 come
      {"execute", 2, {}},                                         // 2 is a hit, 3 replaces 1
      {"read", 0, b},                                             // two hits
  };
  const Totals first = replay_log(calls, {}, ledger("lru", 2));
  EXPECT_EQ(first.rows_requested, 6u);
  EXPECT_EQ(first.hits, 3u);
  EXPECT_EQ(first.rows_moved, 3u);
  calls.push_back({"invalidate", 0, two});
  calls.push_back({"read", 0, two});  // comes again
  calls.push_back({"capacity", 0, {}});
  calls.push_back({"read", 0, b});  // nothing is kept any more
  EXPECT_EQ(replay_log(calls, {}, ledger("lru", 2)).rows_moved, 6u);
}

TEST(ReplayLog, RowsStagedForTheDepthServeLaterMinibatches) {
  const Ids a = ids({7});
  const std::vector<LogCall> calls = {
      {"foresee", 1, a}, {"foresee", 2, a}, {"execute", 1, {}}, {"execute", 2, {}}};
  EXPECT_EQ(replay_log(calls, {}, ledger("none", 0)).rows_moved, 2u);
  EXPECT_EQ(replay_log(calls, {}, ledger("none", 0, 1)).rows_moved, 1u);
  std::vector<LogCall> later = calls;
  later.insert(later.begin(), {"depth", 1, {}});
  EXPECT_EQ(replay_log(later, {}, ledger("none", 0)).rows_moved, 1u);
  later = calls;
  later.insert(later.begin() + 3, {"unstage", 1, {}});
  EXPECT_EQ(replay_log(later, {}, ledger("none", 0, 1)).rows_moved, 2u);
}

TEST(ReplayLog, PriorsComeIntoForceWhereTheyStand) {
  const Ids one = ids({1}), two = ids({2});
  std::vector<float> first(3, 0.0f), second(3, 0.0f);
  first[1] = second[2] = 1.0f;
  const std::vector<std::shared_ptr<const Prior>> priors = {Prior::from_worth(first),
                                                            Prior::from_worth(second)};
  const std::vector<LogCall> calls = {
      {"prior", 0, {}}, {"read", 0, one}, {"read", 0, two}, {"read", 0, one},  // 1 is in the set, 2 is not
      {"prior", 0, {}}, {"read", 0, two}, {"read", 0, two}, {"read", 0, one},  // 2 is in the set, 1 is not
  };
  const Totals result = replay_log(calls, priors, ledger("static-vip", 1));
  EXPECT_EQ(result.hits, 2u);
  EXPECT_EQ(result.rows_moved, 4u);
}

TEST(ReplayLog, TheControllersYesAndTheEndOfACountComeIntoForceWhereTheyStand) {
  const Ids one = ids({1}), two = ids({2});
  // Score on demand: the slot is stale after 26 minibatches, and each yes replaces once.
  LedgerConfig on_demand = ledger("score", 1);
  on_demand.policy.period = 0;
  std::vector<LogCall> calls(30, {"read", 0, one});
  calls.push_back({"read", 0, one});
  EXPECT_EQ(replay_log(calls, {}, on_demand).rows_moved, 31u);
  calls.insert(calls.end() - 1, {"replace", 1, {}});
  calls.push_back({"read", 0, one});
  Totals result = replay_log(calls, {}, on_demand);
  EXPECT_EQ(result.replacement_rows, 1u);
  EXPECT_EQ(result.hits, 1u);
  // Of two stale slots, a limit of half lets one go for each yes.
  on_demand.policy.capacity = 2;
  const Ids both = ids({1, 2});
  calls.assign(30, {"read", 0, both});
  calls.push_back({"fraction", 50, {}});
  calls.push_back({"replace", 1, {}});
  calls.push_back({"read", 0, both});
  EXPECT_EQ(replay_log(calls, {}, on_demand).replacement_rows, 1u);
  // Static by frequency: 1 came first, 2 is asked for most.
  calls = {{"read", 0, one}, {"read", 0, two}, {"read", 0, two}, {"read", 0, two}, {"read", 0, two}};
  EXPECT_EQ(replay_log(calls, {}, ledger("static-frequency", 1)).hits, 0u);
  calls.insert(calls.begin() + 3, {"observe", 1, {}});
  EXPECT_EQ(replay_log(calls, {}, ledger("static-frequency", 1)).hits, 1u);
}

TEST(ReplayLog, RefusesWhatNoRunWrites) {
  const Ids outside = ids({100}), one = ids({1});
  expect_format_error({{"foresee", 1, outside}});
  expect_format_error({{"execute", 1, {}}});
  expect_format_error({{"prior", 0, {}}});
  expect_format_error({{"read", 0, one}, {"dance", 0, {}}});
  expect_format_error({{"fraction", 101, {}}});
}

TEST(ReplayLog, MinibatchesDroppedAfterTheirFetchAskedForNothing) {
  const Ids one = ids({1}), two = ids({2});
  const std::vector<LogCall> calls = {
      {"foresee", 1, one}, {"foresee", 2, two},
      {"execute", 1, {}},  {"execute", 2, {}},  // fetched ahead, and dropped before anybody used it
      {"drop", 1, {}},
  };
  const Totals result = replay_log(calls, {}, ledger("none", 0));
  EXPECT_EQ(result.rows_requested, 1u);
  EXPECT_EQ(result.rows_moved, 2u);
  expect_format_error({{"drop", 1, {}}});
}

TEST(ReplayLog, RowsFetchedAgainAfterAWriteAreMoved) {
  const Ids one = ids({1});
  const std::vector<LogCall> calls = {{"foresee", 1, one}, {"execute", 1, {}}, {"invalidate", 1, one}};
  EXPECT_EQ(replay_log(calls, {}, ledger("none", 0)).rows_moved, 2u);
}

TEST(ReplayLog, MinibatchesThatWereDroppedAreNotExecuted) {
  const Ids one = ids({1});
  const std::vector<LogCall> calls = {
      {"foresee", 1, one}, {"drop", 0, {}}, {"foresee", 2, one}, {"execute", 2, {}}};
  EXPECT_EQ(replay_log(calls, {}, ledger("lookahead", 1)).rows_requested, 1u);
}

}  // namespace
}  // namespace rudder

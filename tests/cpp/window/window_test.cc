#include "window/window.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <vector>

namespace rudder {
namespace {

Seq append(Window& window, const std::vector<RowKey>& rows) {
  window.open();
  for (const RowKey row : rows) window.add(row);
  return window.commit();
}

TEST(Window, EveryAccessKnowsItsNextUse) {
  Window window;
  window.reserve(10);
  EXPECT_EQ(append(window, {1, 2, 3}), 1u);
  EXPECT_EQ(append(window, {2, 4}), 2u);
  EXPECT_EQ(append(window, {1, 2}), 3u);
  EXPECT_EQ(window.rows(), 7u);
  EXPECT_EQ(window.first(4), 2u);
  EXPECT_EQ(window.first(9), kNoUse);
  Window::Minibatch batch;
  window.pop(batch);
  EXPECT_EQ(batch.seq, 1u);
  EXPECT_EQ(batch.rows, (std::vector<RowKey>{1, 2, 3}));
  EXPECT_EQ(batch.next_use, (std::vector<Seq>{3, 2, kNoUse}));
  EXPECT_EQ(window.first(1), 3u);
  EXPECT_FALSE(window.needed(3));
  // A row that left the window and comes back starts anew.
  EXPECT_EQ(append(window, {3, 3, 2}), 4u);
  EXPECT_EQ(window.first_needed().size(), 1u);
  EXPECT_EQ(window.first(3), 4u);
}

TEST(Window, RepeatedRowsCountOnceAndKeepTheirPlace) {
  Window window;
  window.reserve(10);
  window.open();
  EXPECT_EQ(window.add(5), 0u);
  EXPECT_EQ(window.add(6), 1u);
  EXPECT_EQ(window.add(5), 0u);
  window.commit();
  EXPECT_EQ(window.rows(), 2u);
}

TEST(Window, ClearNeverReusesNumbers) {
  Window window;
  window.reserve(4);
  append(window, {0, 1});
  append(window, {1});
  int visits = 0;
  window.clear([&](RowKey) { ++visits; });
  EXPECT_EQ(visits, 3);
  EXPECT_FALSE(window.needed(1));
  EXPECT_EQ(window.rows(), 0u);
  EXPECT_EQ(append(window, {1}), 3u);
  EXPECT_EQ(window.first(1), 3u);
}

TEST(Window, AgreesWithASearchUnderRandomTraffic) {
  std::mt19937 random(11);
  Window window;
  constexpr RowKey kRows = 50;
  window.reserve(kRows);
  std::deque<std::pair<Seq, std::vector<RowKey>>> model;
  const auto next_use = [&](RowKey row, std::size_t from) {
    for (std::size_t i = from; i < model.size(); ++i)
      for (const RowKey other : model[i].second)
        if (other == row) return model[i].first;
    return kNoUse;
  };
  for (int step = 0; step < 5000; ++step) {
    if (model.size() < 20 && (model.empty() || random() % 2 == 0)) {
      std::vector<RowKey> rows;
      for (RowKey row = 0; row < kRows; ++row)
        if (random() % 5 == 0) rows.push_back(row);
      model.emplace_back(append(window, rows), rows);
    } else {
      Window::Minibatch batch;
      window.pop(batch);
      ASSERT_EQ(batch.seq, model.front().first);
      ASSERT_EQ(batch.rows, model.front().second);
      for (std::size_t i = 0; i < batch.rows.size(); ++i)
        ASSERT_EQ(batch.next_use[i], next_use(batch.rows[i], 1));
      model.pop_front();
    }
    for (RowKey row = 0; row < kRows; ++row) ASSERT_EQ(window.first(row), next_use(row, 0));
  }
}

}  // namespace
}  // namespace rudder

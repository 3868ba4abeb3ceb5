// The prefetcher over loopback: every row bit for bit, under any interleaving of its callers, with faults.
#include "prefetcher/prefetcher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "common/error.h"
#include "prefetcher/fixture.h"
#include "transport/callback.h"

namespace rudder {
namespace {

TEST_F(PrefetcherTest, RowsAreRightWhateverThePolicyAndCapacity) {
  for (const std::string& policy : policy_names())
    for (const std::size_t capacity :
         {std::size_t{0}, std::size_t{1}, std::size_t{50}, std::size_t{1000}, std::size_t{1} << 40}) {
      SCOPED_TRACE(policy + " " + std::to_string(capacity));
      std::mt19937 random(3);
      PrefetcherConfig settings = config(capacity);
      settings.policy.name = policy;
      settings.depth = 1 + random() % 3;
      settings.threads = 2;
      Prefetcher prefetcher(settings);
      std::deque<std::pair<Seq, std::vector<NodeId>>> waiting;
      for (int step = 0; step < 60; ++step) {
        for (int ahead = static_cast<int>(random() % 5); ahead > 0; --ahead) {
          auto ids = random_ids(random);
          const Seq seq = prefetcher.submit(ids, 10);
          waiting.emplace_back(seq, std::move(ids));
        }
        if (waiting.empty()) continue;
        const auto [seq, ids] = waiting.front();
        waiting.pop_front();
        ASSERT_TRUE(take_and_check(prefetcher, seq, ids)) << "minibatch " << seq;
      }
      prefetcher.steer({});  // the owner has caught up
      const Counters count = prefetcher.counters();
      EXPECT_LE(count.rows_moved - count.rows_replaced, count.rows_requested);
      EXPECT_EQ(count.rows_hit + count.rows_merged + count.rows_moved - count.rows_replaced,
                count.rows_requested);
      EXPECT_LE(count.cached_rows, count.capacity_rows);
    }
}

TEST_F(PrefetcherTest, ASamplerATrainerAReaderAndASteererAtOnce) {
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    PrefetcherConfig settings = config(200);
    settings.depth = 3;
    settings.threads = 2;
    settings.staging_bytes = 64 << 10;
    settings.record = true;
    Prefetcher prefetcher(settings);
    constexpr int kBatches = 300;
    std::mutex mutex;
    std::condition_variable more;
    std::deque<std::pair<Seq, std::vector<NodeId>>> queue;
    std::thread sampler([&] {
      std::mt19937 random(seed);
      for (int i = 0; i < kBatches; ++i) {
        while (!prefetcher.wait_room(std::chrono::seconds(1))) {
        }
        auto ids = random_ids(random);
        const std::lock_guard lock(mutex);
        const Seq seq = prefetcher.submit(ids, 100);
        queue.emplace_back(seq, std::move(ids));
        more.notify_one();
      }
    });
    std::atomic<bool> stop{false};
    std::thread reader([&] {
      std::mt19937 random(seed + 100);
      while (!stop) {
        const auto ids = random_ids(random, 50);
        std::vector<std::byte> out(ids.size() * kRowBytes);
        prefetcher.read(ids, out);
        EXPECT_TRUE(right(ids, out));
      }
    });
    std::thread steerer([&] {
      std::mt19937 random(seed + 200);
      while (!stop) {
        Steering steering;
        steering.capacity_rows = random() % 200;
        steering.depth = 1 + random() % 4;
        steering.window_rows = random() % 2000;
        prefetcher.steer(steering);
        EXPECT_LE(prefetcher.counters().cached_rows, 200u);
      }
    });
    for (int i = 0; i < kBatches; ++i) {
      std::unique_lock lock(mutex);
      more.wait(lock, [&] { return !queue.empty(); });
      const auto [seq, ids] = queue.front();
      queue.pop_front();
      lock.unlock();
      ASSERT_TRUE(take_and_check(prefetcher, seq, ids));
    }
    stop = true;
    sampler.join();
    reader.join();
    steerer.join();
    EXPECT_GT(prefetcher.drain_record().size(), static_cast<std::size_t>(2 * kBatches - 1));
    EXPECT_EQ(prefetcher.drain_record().size(), 0u);
  }
}

TEST_F(PrefetcherTest, AWriteIsSeenByWhateverIsReadAfterIt) {
  std::mt19937 random(9);
  // A peer's server serializes pulls and writes; so does this one.
  std::mutex table;
  const auto server = std::make_shared<Callback>(
      "server", [&](TableId, auto parts, auto rows, const Callback::Deliver& deliver) {
        std::vector<std::byte> answer;
        const std::lock_guard lock(table);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const auto id = static_cast<std::size_t>((parts[i] == 1 ? kLocal : 2000) + rows[i]);
          answer.insert(answer.end(), table_.begin() + static_cast<std::ptrdiff_t>(id * kRowBytes),
                        table_.begin() + static_cast<std::ptrdiff_t>((id + 1) * kRowBytes));
        }
        deliver(answer);
      });
  PrefetcherConfig settings = config(300);
  settings.routes = {{}, {server}, {server}};
  settings.depth = 3;
  Prefetcher prefetcher(settings);
  std::deque<std::pair<Seq, std::vector<NodeId>>> waiting;
  for (std::uint32_t round = 1; round < 200; ++round) {
    while (waiting.size() < 6) {
      auto ids = random_ids(random);
      const Seq seq = prefetcher.submit(ids, 0);
      waiting.emplace_back(seq, std::move(ids));
    }
    const auto [seq, ids] = waiting.front();
    waiting.pop_front();
    ASSERT_TRUE(take_and_check(prefetcher, seq, ids));
    const std::vector<NodeId> written = random_ids(random, 100);
    {
      const std::lock_guard lock(table);
      for (const NodeId id : written) write(value(id), round);
    }
    prefetcher.invalidate(written);
    std::vector<std::byte> out(ids.size() * kRowBytes);
    prefetcher.gather(seq, out);  // the minibatch in use, too
    ASSERT_TRUE(right(ids, out)) << "round " << round;
  }
  EXPECT_GT(prefetcher.counters().rows_refetched, 0u);
}

TEST_F(PrefetcherTest, DroppedMinibatchesAreForgottenAndTheNextOnesAreRight) {
  std::mt19937 random(4);
  Prefetcher prefetcher(config(200));
  for (int epoch = 0; epoch < 20; ++epoch) {
    std::vector<std::pair<Seq, std::vector<NodeId>>> batches;
    for (int i = 0; i < 8; ++i) {
      auto ids = random_ids(random);
      const Seq seq = prefetcher.submit(ids, 1000);
      batches.emplace_back(seq, std::move(ids));
    }
    for (int i = 0; i < 3; ++i)
      ASSERT_TRUE(take_and_check(prefetcher, batches[static_cast<std::size_t>(i)].first,
                                 batches[static_cast<std::size_t>(i)].second));
    EXPECT_EQ(prefetcher.drop_pending(), 5u);  // break
    EXPECT_EQ(prefetcher.counters().waiting_bytes, 1000u);
    expect_code(ErrorCode::kState, [&] { prefetcher.take(batches[5].first, kForever); });
    std::vector<std::byte> out(batches[2].second.size() * kRowBytes);
    prefetcher.gather(batches[2].first, out);  // the one in use stays
    ASSERT_TRUE(right(batches[2].second, out));
  }
}

TEST_F(PrefetcherTest, AFailedFetchIsATypedErrorAndLeavesNoWrongRow) {
  PrefetcherConfig settings = config(500);
  settings.depth = 2;
  settings.deadline = std::chrono::milliseconds(20);
  Prefetcher prefetcher(settings);
  std::mt19937 random(5);
  const auto first = random_ids(random);
  ASSERT_TRUE(take_and_check(prefetcher, prefetcher.submit(first, 0), first));
  for (const bool stall : {false, true}) {
    loopback_->inject(stall ? Loopback::Faults{.stall = true} : Loopback::Faults{.fail = "peer gone"});
    const std::vector<NodeId> ids{NodeId{2500 + stall}, NodeId{1}, NodeId{700 + stall}};
    const Seq seq = prefetcher.submit(ids, 0);
    expect_code(stall ? ErrorCode::kDeadline : ErrorCode::kTransport,
                [&] { prefetcher.take(seq, kForever); });
    std::vector<std::byte> out(ids.size() * kRowBytes);
    expect_code(stall ? ErrorCode::kDeadline : ErrorCode::kTransport, [&] { prefetcher.read(ids, out); });
    loopback_->inject({});
    prefetcher.read(ids, out);  // nothing of the failed fetch was kept
    EXPECT_TRUE(right(ids, out));
    ASSERT_TRUE(take_and_check(prefetcher, prefetcher.submit(ids, 0), ids));
  }
  EXPECT_GE(prefetcher.counters().fetches_failed, 4u);
}

TEST_F(PrefetcherTest, AFetchThatFailedAheadOfTimeIsTriedOnceMoreWhenItsRowsAreNeeded) {
  PrefetcherConfig settings = config(500);
  settings.depth = 3;
  Prefetcher prefetcher(settings);
  std::mt19937 random(6);
  const auto first = random_ids(random);
  ASSERT_TRUE(take_and_check(prefetcher, prefetcher.submit(first, 0), first));
  loopback_->inject({.fail = "away for a moment"});
  std::deque<std::pair<Seq, std::vector<NodeId>>> ahead;
  for (int i = 0; i < 3; ++i) {
    auto ids = random_ids(random);
    ids.push_back(NodeId{2990 + i});
    ids.push_back(NodeId{2990});  // rows that hang on an earlier minibatch's fetch are fetched again, too
    const Seq seq = prefetcher.submit(ids, 0);
    ahead.emplace_back(seq, std::move(ids));
  }
  while (prefetcher.counters().fetches_failed < 3) std::this_thread::yield();
  loopback_->inject({});
  for (const auto& [seq, ids] : ahead) ASSERT_TRUE(take_and_check(prefetcher, seq, ids));
  EXPECT_GT(prefetcher.counters().rows_refetched, 0u);
}

TEST_F(PrefetcherTest, DroppedMinibatchesAreTakenOutOfTheRequests) {
  PrefetcherConfig settings = config(0);
  settings.depth = 4;
  Prefetcher prefetcher(settings);
  const std::vector<NodeId> ids{NodeId{1000}, NodeId{1001}};
  prefetcher.take(prefetcher.submit(ids, 0), kForever);
  const std::vector<NodeId> others{NodeId{1002}, NodeId{1003}, NodeId{1004}};
  prefetcher.submit(others, 0);
  prefetcher.drop_pending();
  const Counters count = prefetcher.counters();
  EXPECT_EQ(count.minibatches, 1u);
  EXPECT_EQ(count.rows_requested, 2u);
  EXPECT_EQ(count.rows_moved, 2u + count.rows_wasted);
}

TEST_F(PrefetcherTest, LocalRowsAreNeverFetchedHoweverMuchTheyAreWorth) {
  std::vector<float> worth(kRows);
  for (std::size_t i = 0; i < worth.size(); ++i)
    worth[i] = static_cast<float>(kRows - static_cast<std::int64_t>(i));
  for (const std::string policy : {"static-vip", "score"}) {
    SCOPED_TRACE(policy);
    PrefetcherConfig settings = config(700);
    settings.policy.name = policy;
    settings.policy.prefill = true;
    settings.policy.prior = Prior::from_worth(worth);
    Prefetcher prefetcher(settings);
    const std::vector<NodeId> ids{NodeId{3}, NodeId{kLocal}, NodeId{2999}};
    ASSERT_TRUE(take_and_check(prefetcher, prefetcher.submit(ids, 0), ids));
    prefetcher.steer({.prior = Prior::from_worth(worth)});
    ASSERT_TRUE(take_and_check(prefetcher, prefetcher.submit(ids, 0), ids));
  }
}

TEST_F(PrefetcherTest, AWaitEndsWhenItsPollThrows) {
  loopback_->inject({.stall = true});
  Prefetcher prefetcher(config(10));
  const std::vector<NodeId> ids{NodeId{2500}};
  std::vector<std::byte> out(kRowBytes);
  struct Interrupt {};
  EXPECT_THROW(prefetcher.read(ids, out, [] { throw Interrupt{}; }), Interrupt);
  const Seq seq = prefetcher.submit(ids, 0);
  EXPECT_THROW(prefetcher.take(seq, kForever, [] { throw Interrupt{}; }), Interrupt);
}

TEST_F(PrefetcherTest, FetchesThatNeverPauseCountAllTheTime) {
  loopback_->inject({.stall = true});
  Prefetcher prefetcher(config(10));
  EXPECT_EQ(prefetcher.counters().seconds_fetching, 0);
  prefetcher.submit(std::vector<NodeId>{NodeId{2500}}, 0);
  double earlier = 0;
  for (int longer = 0; longer < 3; std::this_thread::yield()) {
    const double now = prefetcher.counters().seconds_fetching;
    if (now > earlier) ++longer;
    earlier = now;
  }
  prefetcher.close();
  const double last = prefetcher.counters().seconds_fetching;
  EXPECT_GE(last, earlier);
  EXPECT_EQ(prefetcher.counters().seconds_fetching, last);
}

TEST_F(PrefetcherTest, CloseWakesEverybodyUp) {
  loopback_->inject({.stall = true});
  Prefetcher prefetcher(config(0));
  const std::vector<NodeId> ids{NodeId{2500}};
  const Seq seq = prefetcher.submit(ids, 0);
  std::vector<std::byte> out(kRowBytes);
  std::vector<std::thread> waiting;
  std::atomic<int> closed{0};
  const auto wait = [&](std::function<void()> call) {
    waiting.emplace_back([&closed, call = std::move(call)] {
      try {
        call();
      } catch (const Error& error) {
        if (error.code() == ErrorCode::kClosed) ++closed;
      }
    });
  };
  wait([&] { prefetcher.take(seq, kForever); });
  wait([&] { prefetcher.read(ids, out); });
  wait([&] {
    prefetcher.submit(ids, 0);
    while (true) prefetcher.wait_room(std::chrono::seconds(1));
  });
  prefetcher.close();
  prefetcher.close();
  for (auto& thread : waiting) thread.join();
  EXPECT_EQ(closed, 3);
  expect_code(ErrorCode::kClosed, [&] { prefetcher.submit(ids, 0); });
}

TEST_F(PrefetcherTest, TakeGivesUpAfterItsTimeout) {
  loopback_->inject({.stall = true});
  Prefetcher prefetcher(config(10));
  const std::vector<NodeId> ids{NodeId{2500}};
  const Seq seq = prefetcher.submit(ids, 0);
  expect_code(ErrorCode::kDeadline, [&] { prefetcher.take(seq, std::chrono::milliseconds(5)); });
}

TEST_F(PrefetcherTest, StagingIsBounded) {
  PrefetcherConfig settings = config(0);
  settings.depth = 100;
  settings.staging_bytes = 1;  // one minibatch always passes
  Prefetcher prefetcher(settings);
  std::vector<std::vector<NodeId>> minibatches(20);  // no row serves two
  std::vector<Seq> seqs;
  for (std::size_t i = 0; i < minibatches.size(); ++i) {
    for (std::size_t k = 0; k < 100; ++k) minibatches[i].push_back(static_cast<NodeId>(1000 + 100 * i + k));
    seqs.push_back(prefetcher.submit(minibatches[i], 0));
  }
  for (std::size_t i = 0; i < seqs.size(); ++i)
    ASSERT_TRUE(take_and_check(prefetcher, seqs[i], minibatches[i]));
  EXPECT_LE(prefetcher.counters().staging_bytes_peak, 4 * (std::size_t{64} << 10));  // slabs of 64 KiB
}

TEST_F(PrefetcherTest, OverheadOfTheBufferIsCounted) {
  const auto overhead = [&](std::size_t capacity) {
    Prefetcher prefetcher(config(capacity));
    const std::vector<NodeId> ids{NodeId{2500}};
    EXPECT_TRUE(take_and_check(prefetcher, prefetcher.submit(ids, 0), ids));
    prefetcher.steer({});  // waits for the owner, who has counted by then
    return prefetcher.counters().overhead_bytes;
  };
  // Per slot: its state, its place in the free list, and where it is filled from.
  EXPECT_GE(overhead(2000) - overhead(1000), 1000 * (sizeof(SlotId) + 2 * sizeof(void*)));
}

TEST_F(PrefetcherTest, BadCallsAreTypedErrors) {
  Prefetcher prefetcher(config(10));
  std::vector<std::byte> out(kRowBytes);
  for (const std::int64_t bad : {std::int64_t{-1}, kRows, std::numeric_limits<std::int64_t>::max()}) {
    const std::vector<NodeId> ids{NodeId{bad}};
    expect_code(ErrorCode::kOutOfRange, [&] { prefetcher.submit(ids, 0); });
    expect_code(ErrorCode::kOutOfRange, [&] { prefetcher.read(ids, out); });
    expect_code(ErrorCode::kOutOfRange, [&] { prefetcher.invalidate(ids); });
  }
  const std::vector<NodeId> two{NodeId{1}, NodeId{2}};
  expect_code(ErrorCode::kConfig, [&] { prefetcher.read(two, out); });
  expect_code(ErrorCode::kState, [&] { prefetcher.take(1, kForever); });
  const Seq seq = prefetcher.submit(two, 0);
  expect_code(ErrorCode::kState, [&] { prefetcher.gather(seq, out); });  // not taken yet
  prefetcher.take(seq, kForever);
  expect_code(ErrorCode::kConfig, [&] { prefetcher.gather(seq, out); });
  prefetcher.release(seq);
  prefetcher.steer({});  // waits for the owner, and so for the release
  expect_code(ErrorCode::kConfig, [&] { prefetcher.steer({.capacity_rows = 11}); });
  expect_code(ErrorCode::kConfig, [&] { prefetcher.steer({.depth = 0}); });
  expect_code(ErrorCode::kState, [&] { prefetcher.gather(seq, out); });
}

TEST_F(PrefetcherTest, BadSettingsAreTypedErrors) {
  const auto refuse = [&](const std::function<void(PrefetcherConfig&)>& spoil) {
    PrefetcherConfig settings = config(10);
    spoil(settings);
    expect_code(ErrorCode::kConfig, [&] { const Prefetcher prefetcher(settings); });
  };
  refuse([](auto& c) { c.row_bytes = 0; });
  refuse([](auto& c) { c.depth = 0; });
  refuse([](auto& c) { c.threads = 0; });
  refuse([](auto& c) { c.local_rows = nullptr; });
  refuse([](auto& c) { c.routes[1].clear(); });
  refuse([](auto& c) { c.routes.pop_back(); });
  refuse([](auto& c) { c.part_starts = {0, 5}; });
  refuse([](auto& c) { c.policy.name = "belady"; });
  refuse([](auto& c) { c.local_part = PartId{3}; });
}

}  // namespace
}  // namespace rudder

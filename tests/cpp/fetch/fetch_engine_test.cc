#include "fetch/fetch_engine.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>

#include "common/error.h"
#include "transport/loopback.h"

namespace rudder {
namespace {

constexpr std::size_t kRowBytes = 16;

class FetchEngineTest : public testing::Test {
 protected:
  FetchEngineTest() {
    for (std::size_t i = 0; i < rows_.size(); ++i) rows_[i] = static_cast<std::byte>(i * 31 + i / 256);
    for (const auto& transport : {best_, fallback_})
      for (const int part : {1, 2})
        transport->expose(PartId{part}, 0, rows_.data() + part * 50 * kRowBytes, 50, kRowBytes);
  }

  // A route that failed is not tried again by default: the tests that want it say so.
  std::unique_ptr<FetchEngine> engine(bool with_fallback,
                                      std::chrono::milliseconds deadline = std::chrono::seconds(30),
                                      std::chrono::milliseconds pause = std::chrono::hours(1)) {
    std::vector<std::shared_ptr<Transport>> ladder{best_};
    if (with_fallback) ladder.push_back(fallback_);
    return std::make_unique<FetchEngine>(FetchConfig{.table = 0,
                                                     .row_bytes = kRowBytes,
                                                     .part_starts = {0, 50, 100, 150},
                                                     .routes = {{}, ladder, ladder},
                                                     .deadline = deadline,
                                                     .pause = pause},
                                         [this](FetchEngine::FetchId id, FailurePtr error) {
                                           const std::lock_guard lock(mutex_);
                                           done_[id] = error;
                                           changed_.notify_all();
                                         });
  }

  std::vector<Gather> gathers() {
    out_.assign(3 * kRowBytes, std::byte{0});
    return {{PartId{1}, 0, {0, 49}, kRowBytes, out_.data()},
            {PartId{2}, 0, {7}, kRowBytes, out_.data() + 2 * kRowBytes}};
  }
  bool arrived() const {
    return std::memcmp(out_.data(), rows_.data() + 50 * kRowBytes, kRowBytes) == 0 &&
           std::memcmp(out_.data() + kRowBytes, rows_.data() + 99 * kRowBytes, kRowBytes) == 0 &&
           std::memcmp(out_.data() + 2 * kRowBytes, rows_.data() + 107 * kRowBytes, kRowBytes) == 0;
  }
  FailurePtr wait(FetchEngine::FetchId id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_.contains(id); });
    return done_[id];
  }

  std::vector<std::byte> rows_ = std::vector<std::byte>(150 * kRowBytes);
  std::vector<std::byte> out_;
  std::shared_ptr<Loopback> best_ = std::make_shared<Loopback>();
  std::shared_ptr<Loopback> fallback_ = std::make_shared<Loopback>();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<FetchEngine::FetchId, FailurePtr> done_;
};

TEST_F(FetchEngineTest, RowsOfSeveralPartitionsArrive) {
  const auto fetcher = engine(false);
  fetcher->fetch(1, gathers());
  EXPECT_EQ(wait(1), nullptr);
  EXPECT_TRUE(arrived());
}

TEST_F(FetchEngineTest, AFailingTransportGivesWayToTheNextAndStaysAside) {
  best_->inject({.fail = "cable pulled"});
  const auto fetcher = engine(true);
  fetcher->fetch(1, gathers());
  EXPECT_EQ(wait(1), nullptr);
  EXPECT_TRUE(arrived());
  for (const int part : {1, 2}) {
    const RouteState state = fetcher->routes()[static_cast<std::size_t>(part)];
    EXPECT_TRUE(state.fallback);
    EXPECT_NE(state.why.find("cable pulled"), std::string::npos);
  }
  fallback_->inject({.fail = "this one too"});
  fetcher->fetch(2, gathers());
  EXPECT_NE(wait(2), nullptr);
}

TEST_F(FetchEngineTest, ATransportThatReachesThePeerAgainIsUsedAgain) {
  const auto fetcher = engine(true, std::chrono::seconds(30), std::chrono::milliseconds(0));
  best_->inject({.fail = "cable pulled"});
  fetcher->fetch(1, gathers());
  EXPECT_EQ(wait(1), nullptr);
  for (const int part : {1, 2}) EXPECT_TRUE(fetcher->routes()[static_cast<std::size_t>(part)].fallback);
  // Once it answers again, what the fallback would fail arrives.
  best_->inject({});
  fallback_->inject({.fail = "not asked"});
  fetcher->fetch(2, gathers());
  EXPECT_EQ(wait(2), nullptr);
  EXPECT_TRUE(arrived());
  for (const int part : {1, 2}) EXPECT_FALSE(fetcher->routes()[static_cast<std::size_t>(part)].fallback);
}

TEST_F(FetchEngineTest, OnlyThePeerThatDoesNotAnswerIsBlamed) {
  const auto fetcher = engine(true, std::chrono::milliseconds(20));
  best_->inject({.stall = true, .after = 1});
  fetcher->fetch(1, gathers());
  EXPECT_EQ(wait(1), nullptr);
  EXPECT_TRUE(arrived());
  EXPECT_FALSE(fetcher->routes()[1].fallback);
  EXPECT_TRUE(fetcher->routes()[2].fallback);
}

TEST_F(FetchEngineTest, AStalledTransportMeetsTheDeadline) {
  best_->inject({.stall = true});
  const auto fetcher = engine(true, std::chrono::milliseconds(20));
  fetcher->fetch(1, gathers());
  EXPECT_EQ(wait(1), nullptr);
  EXPECT_TRUE(arrived());
}

TEST_F(FetchEngineTest, AllRoutesTogetherKeepTheDeadline) {
  best_->inject({.stall = true});
  fallback_->inject({.stall = true});
  constexpr auto kDeadline = std::chrono::milliseconds(400);
  const auto fetcher = engine(true, kDeadline);
  const auto began = std::chrono::steady_clock::now();
  fetcher->fetch(1, gathers());
  const FailurePtr error = wait(1);
  const auto took = std::chrono::steady_clock::now() - began;
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->code, ErrorCode::kDeadline);
  EXPECT_GE(took, kDeadline);
  EXPECT_LT(took, kDeadline * 7 / 4);  // each its own deadline would be twice
  EXPECT_TRUE(fetcher->routes()[1].fallback);
}

// Takes the rows of all peers in one call, and never answers.
class Silent final : public Transport {
 public:
  std::string name() const override { return "silent"; }
  std::string place(PartId peer) const override { return value(peer) == 1 ? "10.0.0.2:70" : "10.0.0.2:7"; }
  bool merges_peers() const override { return true; }
  Reach reach(PartId, TableId, std::size_t) const override { return {}; }
  void submit(Ticket, std::vector<Gather>, std::shared_ptr<CompletionSink>) override {}
  void cancel(Ticket) override {}
  void close() override {}
};

TEST_F(FetchEngineTest, APartitionsLastRouteHasAllOfTheDeadlineWhateverOthersHaveLeft) {
  const auto silent = std::make_shared<Silent>();
  constexpr auto kDeadline = std::chrono::milliseconds(200);
  FetchEngine fetcher({.table = 0,
                       .row_bytes = kRowBytes,
                       .part_starts = {0, 50, 100, 150},
                       .routes = {{}, {silent}, {silent, fallback_}},
                       .deadline = kDeadline},
                      [this](FetchEngine::FetchId id, FailurePtr error) {
                        const std::lock_guard lock(mutex_);
                        done_[id] = error;
                        changed_.notify_all();
                      });
  const auto began = std::chrono::steady_clock::now();
  fetcher.fetch(1, gathers());
  const FailurePtr error = wait(1);
  EXPECT_GE(std::chrono::steady_clock::now() - began, kDeadline);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->part, 1);
  EXPECT_EQ(error->place, "10.0.0.2:70");
  EXPECT_NE(error->message.find("silent from 10.0.0.2:70 did not"), std::string::npos) << error->message;
  EXPECT_TRUE(fetcher.routes()[2].fallback);
}

TEST_F(FetchEngineTest, SeveralPeersOfOneCallAreAllNamedWhereNoneAnswers) {
  const auto silent = std::make_shared<Silent>();
  FetchEngine fetcher({.table = 0,
                       .row_bytes = kRowBytes,
                       .part_starts = {0, 50, 100, 150},
                       .routes = {{}, {silent}, {silent}},
                       .deadline = std::chrono::milliseconds(20)},
                      [this](FetchEngine::FetchId id, FailurePtr error) {
                        const std::lock_guard lock(mutex_);
                        done_[id] = error;
                        changed_.notify_all();
                      });
  fetcher.fetch(1, gathers());
  const FailurePtr error = wait(1);
  ASSERT_NE(error, nullptr);
  EXPECT_NE(error->message.find("silent from 10.0.0.2:7 or 10.0.0.2:70 did not"), std::string::npos)
      << error->message;
}

TEST_F(FetchEngineTest, TheLateAttemptsOfATransportAreCancelledTogether) {
  class Together final : public Transport {
   public:
    std::string name() const override { return "together"; }
    std::string place(PartId) const override { return {}; }
    Reach reach(PartId, TableId, std::size_t) const override { return {}; }
    void submit(Ticket, std::vector<Gather>, std::shared_ptr<CompletionSink>) override {}
    void cancel(Ticket) override { ADD_FAILURE() << "one by one"; }
    void cancel_all(std::span<const Ticket> tickets) override { calls.push_back(tickets.size()); }
    void close() override {}
    std::vector<std::size_t> calls;
  };
  const auto silent = std::make_shared<Together>();
  FetchEngine fetcher({.table = 0,
                       .row_bytes = kRowBytes,
                       .part_starts = {0, 50, 100, 150},
                       .routes = {{}, {silent, fallback_}, {silent, fallback_}},
                       .deadline = std::chrono::milliseconds(40)},
                      [this](FetchEngine::FetchId id, FailurePtr error) {
                        const std::lock_guard lock(mutex_);
                        done_[id] = error;
                        changed_.notify_all();
                      });
  fetcher.fetch(1, gathers());
  EXPECT_EQ(wait(1), nullptr);
  EXPECT_TRUE(arrived());
  fetcher.close();
  EXPECT_EQ(silent->calls, std::vector<std::size_t>{2});
}

TEST_F(FetchEngineTest, WithoutAFallbackTheErrorNamesPartitionAndIds) {
  for (const bool stall : {false, true}) {
    best_->inject(stall ? Loopback::Faults{.stall = true} : Loopback::Faults{.fail = "peer gone"});
    const auto fetcher = engine(false, std::chrono::milliseconds(20));
    fetcher->fetch(1, gathers());
    const FailurePtr error = wait(1);
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->code, stall ? ErrorCode::kDeadline : ErrorCode::kTransport);
    EXPECT_EQ(error->part, 1);
    EXPECT_EQ(error->ids, (std::vector<std::int64_t>{50, 99}));
    EXPECT_NE(error->message.find("loopback from this process"), std::string::npos) << error->message;
    try {
      error->raise();
      ADD_FAILURE() << "raised nothing";
    } catch (const FetchError& raised) {
      EXPECT_EQ(raised.place(), "this process");
    }
    const std::lock_guard lock(mutex_);
    done_.clear();
  }
}

TEST_F(FetchEngineTest, TheErrorNamesThePeerThatFailedAmongSeveral) {
  const auto fetcher = engine(false);
  // The second peer's table shrinks under its readers: only its rows are out of reach.
  best_->expose(PartId{2}, 0, rows_.data(), 1, kRowBytes);
  fetcher->fetch(1, gathers());
  const FailurePtr error = wait(1);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->part, 2);
  EXPECT_EQ(error->ids, (std::vector<std::int64_t>{107}));
}

TEST_F(FetchEngineTest, AfterCloseNothingIsWritten) {
  best_->inject({.stall = true});
  auto fetcher = engine(false);
  fetcher->fetch(1, gathers());
  fetcher->close();
  best_->inject({});
  fetcher.reset();
  EXPECT_EQ(out_, std::vector<std::byte>(3 * kRowBytes, std::byte{0}));
}

TEST_F(FetchEngineTest, RefusesRoutesThatReachNothing) {
  const auto empty = std::make_shared<Loopback>();
  const auto make = [&](std::chrono::nanoseconds deadline) {
    return FetchEngine({.table = 0,
                        .row_bytes = kRowBytes,
                        .part_starts = {0, 50, 100},
                        .routes = {{}, {empty}},
                        .deadline = deadline},
                       [](auto, auto) {});
  };
  EXPECT_THROW(make(std::chrono::seconds(1)), Error);
  empty->expose(PartId{1}, 0, rows_.data(), 50, kRowBytes);
  EXPECT_THROW(make(std::chrono::nanoseconds(0)), Error);
  EXPECT_NO_THROW(make(std::chrono::seconds(1)));
}

}  // namespace
}  // namespace rudder

#include "fetch/probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/error.h"
#include "transport/loopback.h"

namespace rudder {
namespace {

constexpr std::size_t kRowBytes = 16;
constexpr std::size_t kRows = 50;

class ProbeTest : public testing::Test {
 protected:
  ProbeTest() {
    for (std::size_t i = 0; i < rows_.size(); ++i) rows_[i] = static_cast<std::byte>(i * 31 + i / 256);
    for (const int part : {1, 2})
      loopback_->expose(PartId{part}, 0, rows_.data() + part * kRows * kRowBytes, kRows, kRowBytes);
  }
  TransportProbe probe(std::vector<PartId> peers,
                       std::chrono::milliseconds deadline = std::chrono::seconds(30)) {
    return TransportProbe({.transport = loopback_,
                           .table = 0,
                           .row_bytes = kRowBytes,
                           .peers = std::move(peers),
                           .deadline = deadline});
  }

  std::vector<std::byte> rows_ = std::vector<std::byte>(3 * kRows * kRowBytes);
  std::shared_ptr<Loopback> loopback_ = std::make_shared<Loopback>();
};

TEST_F(ProbeTest, EveryRowOfEveryRequestIsInItsPlace) {
  // 7 rows over two peers: 4 of the first, 3 of the second.
  constexpr std::size_t kPerRequest = 7;
  std::vector<std::int64_t> rows(10 * kPerRequest);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i * 17 % kRows);
  for (const std::size_t in_flight : {1, 3, 100}) {
    std::vector<std::byte> out(rows.size() * kRowBytes);
    const ProbeResult result = probe({PartId{1}, PartId{2}}).run(rows, kPerRequest, in_flight, out);
    ASSERT_EQ(result.latencies.size(), 10U);
    for (const auto latency : result.latencies) {
      EXPECT_GT(latency.count(), 0);
      EXPECT_LE(latency, result.elapsed);
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::size_t part = i % kPerRequest < 4 ? 1 : 2;
      const auto* expected = rows_.data() + (part * kRows + static_cast<std::size_t>(rows[i])) * kRowBytes;
      ASSERT_EQ(std::memcmp(out.data() + i * kRowBytes, expected, kRowBytes), 0) << i;
    }
  }
}

// Keeps every ticket until there are as many as asked for, so that the number in flight can be seen.
class Hoarder final : public Transport {
 public:
  explicit Hoarder(std::size_t wanted) : wanted_(wanted) {}
  std::string name() const override { return "hoarder"; }
  std::string place(PartId) const override { return {}; }
  Reach reach(PartId, TableId, std::size_t) const override { return {}; }
  void submit(Ticket ticket, std::vector<Gather>, std::shared_ptr<CompletionSink> sink) override {
    held_.push_back(ticket);
    most_ = std::max(most_, held_.size());
    if (held_.size() < wanted_) return;
    for (const Ticket each : std::exchange(held_, {})) sink->complete({each, CompletionStatus::kDone, {}});
  }
  void cancel(Ticket) override {}
  void close() override {}

  std::size_t most_ = 0;

 private:
  const std::size_t wanted_;
  std::vector<Ticket> held_;
};

TEST(ProbeInFlight, AsManyRequestsAreOutAsAskedFor) {
  const auto hoarder = std::make_shared<Hoarder>(4);
  TransportProbe probe({.transport = hoarder, .table = 0, .row_bytes = 1, .peers = {PartId{0}}});
  const std::vector<std::int64_t> rows(16, 0);
  std::vector<std::byte> out(16);
  EXPECT_EQ(probe.run(rows, 1, 4, out).latencies.size(), 16U);  // three in flight would wait for ever
  EXPECT_EQ(hoarder->most_, 4U);
}

TEST_F(ProbeTest, AFailureNamesThePeerAndItsWords) {
  std::vector<std::byte> out(4 * kRowBytes);
  loopback_->inject({.fail = "cable pulled", .after = 2});
  try {
    probe({PartId{2}}).run(std::vector<std::int64_t>(4, 1), 1, 2, out);
    FAIL() << "no error";
  } catch (const FetchError& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTransport);
    EXPECT_EQ(error.part(), 2);
    EXPECT_EQ(error.place(), "this process");
    EXPECT_NE(std::string(error.what()).find("cable pulled"), std::string::npos);
  }
}

TEST_F(ProbeTest, AStallMeetsTheDeadlineAndNothingIsWrittenLater) {
  std::vector<std::byte> out(4 * kRowBytes);
  loopback_->inject({.stall = true});
  auto stalled = probe({PartId{1}}, std::chrono::milliseconds(20));
  try {
    stalled.run(std::vector<std::int64_t>(4, 1), 1, 2, out);
    FAIL() << "no error";
  } catch (const FetchError& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDeadline);
  }
  loopback_->inject({});
  EXPECT_EQ(out, std::vector<std::byte>(4 * kRowBytes));
}

TEST_F(ProbeTest, RefusesWhatCannotRun) {
  EXPECT_THROW(probe({}), Error);
  EXPECT_THROW(probe({PartId{9}}), Error);
  auto fine = probe({PartId{1}});
  std::vector<std::byte> out(3 * kRowBytes);
  const std::vector<std::int64_t> rows(3, 0);
  EXPECT_THROW(fine.run(rows, 2, 1, out), Error);
  EXPECT_THROW(fine.run(rows, 1, 0, out), Error);
  EXPECT_THROW(fine.run(rows, 3, 1, std::span(out).first(1)), Error);
  EXPECT_NO_THROW(fine.run(rows, 3, 1, out));
}

}  // namespace
}  // namespace rudder

// One suite for every transport that can be had in one process: a new one adds a maker below.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "common/error.h"
#include "transport/callback.h"
#include "transport/loopback.h"
#include "transport/shm.h"
#include "transport/sink.h"
#ifdef RUDDER_HAVE_UCX
#include "transport/ucx/client.h"
#include "transport/ucx/server.h"
#endif

namespace rudder {
namespace {

constexpr std::size_t kRows = 100;
constexpr std::size_t kRowBytes = 24;
constexpr PartId kPeer{1}, kOther{2};

std::vector<std::byte> make_rows(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> rows(kRows * kRowBytes);
  for (auto& byte : rows) byte = static_cast<std::byte>(random());
  return rows;
}

// A transport that serves table 3 of both peers.
struct Served {
  std::vector<std::byte> rows[2] = {make_rows(1), make_rows(2)};
  std::string places[2];
  std::vector<std::string> segments;
  std::vector<std::shared_ptr<void>> servers;
  std::unique_ptr<Transport> transport;

  ~Served() {
    transport.reset();
    for (const auto& name : segments) shm_unlink(name.c_str());
  }
  const std::vector<std::byte>& of(PartId peer) const { return rows[value(peer) - 1]; }
};

std::unique_ptr<Served> loopback() {
  auto served = std::make_unique<Served>();
  auto transport = std::make_unique<Loopback>();
  for (const PartId peer : {kPeer, kOther})
    transport->expose(peer, 3, served->of(peer).data(), kRows, kRowBytes);
  served->places[0] = served->places[1] = "this process";
  served->transport = std::move(transport);
  return served;
}

std::string segment_of(const std::vector<std::byte>& bytes, std::size_t offset, int number) {
  const std::string name = "/rudder-test-" + std::to_string(getpid()) + "-" + std::to_string(number);
  const int fd = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  EXPECT_GE(fd, 0);
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(bytes.size() + offset)), 0);
  EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
            static_cast<ssize_t>(bytes.size()));
  ::close(fd);
  return name;
}

std::unique_ptr<Served> shm() {
  auto served = std::make_unique<Served>();
  auto transport = std::make_unique<Shm>();
  for (const PartId peer : {kPeer, kOther}) {
    served->segments.push_back(segment_of(served->of(peer), 40, value(peer)));
    transport->attach(peer, 3, served->segments.back().substr(1), kRows, kRowBytes, 40);
  }
  served->places[0] = served->places[1] = "this host's shared memory";
  served->transport = std::move(transport);
  return served;
}

std::unique_ptr<Served> callback() {
  auto served = std::make_unique<Served>();
  served->transport = std::make_unique<Callback>(
      "callback",
      [from = served.get()](TableId table, std::span<const std::int64_t> parts,
                            std::span<const std::int64_t> rows, const Callback::Deliver& deliver) {
        if (table != 3) throw std::runtime_error("no such table");
        std::vector<std::byte> answer;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          if (rows[i] < 0 || rows[i] >= static_cast<std::int64_t>(kRows))
            throw std::runtime_error("row out of range");
          const std::byte* row =
              from->of(static_cast<PartId>(parts[i])).data() + static_cast<std::size_t>(rows[i]) * kRowBytes;
          answer.insert(answer.end(), row, row + kRowBytes);
        }
        deliver(answer);
      },
      std::vector<std::string>{"", "10.0.0.2:30050", "10.0.0.3:30050"});
  served->places[0] = "10.0.0.2:30050";
  served->places[1] = "10.0.0.3:30050";
  return served;
}

#ifdef RUDDER_HAVE_UCX
std::unique_ptr<Served> ucx_with(bool gets) {
  const ucx::WorkerConfig worker{.devices = "lo", .tls = "tcp", .emulate_gets = gets};
  auto served = std::make_unique<Served>();
  auto transport = std::make_unique<Ucx>(Ucx::Config{.worker = worker});
  for (const PartId peer : {kPeer, kOther}) {
    const auto server = std::make_shared<FeatureServer>(FeatureServer::Config{.worker = worker});
    served->servers.push_back(server);
    const wire::Token token{static_cast<std::byte>(value(peer))};
    server->let_in(7, transport->hosts());
    transport->let_in(peer, server->hosts());
    server->admit(7, token, transport->address());
    const auto region = server->expose(served->of(peer).data(), kRows, kRowBytes);
    server->grant(7, 3, region);
    const std::string place = "10.0.0." + std::to_string(1 + value(peer)) + ":7000";
    transport->connect(peer, server->address(), 7, token, ucx::library_version(), place);
    served->places[value(peer) - 1] = place;
    transport->open(peer, 3, kRows, kRowBytes, server->offer(region));
    transport->use_gets(peer, 3, gets);
    EXPECT_EQ(transport->why_no_gets(peer, 3).empty(), gets) << transport->why_no_gets(peer, 3);
  }
  served->transport = std::move(transport);
  return served;
}
std::unique_ptr<Served> ucx() { return ucx_with(false); }
std::unique_ptr<Served> ucx_gets() { return ucx_with(true); }
#endif

using Maker = std::unique_ptr<Served> (*)();
class TransportContract : public testing::TestWithParam<std::pair<const char*, Maker>> {
 protected:
  std::unique_ptr<Served> served_ = GetParam().second();
  std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
};

TEST_P(TransportContract, RowsOfSeveralPeersArriveBitForBit) {
  std::mt19937 random(5);
  for (Ticket ticket = 1; ticket <= 50; ++ticket) {
    std::vector<Gather> gathers;
    std::vector<std::vector<std::byte>> out;
    for (const PartId peer : {kPeer, kOther}) {
      std::vector<std::int64_t> rows(random() % 60);
      for (auto& row : rows) row = static_cast<std::int64_t>(random() % kRows);
      out.emplace_back(rows.size() * kRowBytes + 1, std::byte{0x77});
      gathers.push_back({peer, 3, rows, kRowBytes, out.back().data()});
    }
    served_->transport->submit(ticket, gathers, sink_);
    ASSERT_EQ(sink_->wait(ticket).status, CompletionStatus::kDone) << sink_->wait(ticket).message;
    for (std::size_t g = 0; g < gathers.size(); ++g) {
      for (std::size_t i = 0; i < gathers[g].rows.size(); ++i)
        ASSERT_EQ(std::memcmp(out[g].data() + i * kRowBytes,
                              served_->of(gathers[g].peer).data() +
                                  static_cast<std::size_t>(gathers[g].rows[i]) * kRowBytes,
                              kRowBytes),
                  0);
      ASSERT_EQ(out[g].back(), std::byte{0x77});  // nothing beyond the destination
    }
  }
  EXPECT_EQ(sink_->completions(), 50u);
}

TEST_P(TransportContract, ARowOutsideTheTableFailsAndNamesIt) {
  for (const std::int64_t bad : {std::int64_t{-1}, static_cast<std::int64_t>(kRows), std::int64_t{1} << 60}) {
    std::vector<std::byte> out(2 * kRowBytes);
    const auto ticket = static_cast<Ticket>(bad & 0xff) + 1000;
    served_->transport->submit(ticket, {{kPeer, 3, {0, bad}, kRowBytes, out.data()}}, sink_);
    const Completion completion = sink_->wait(ticket);
    EXPECT_EQ(completion.status, CompletionStatus::kFailed);
    EXPECT_FALSE(completion.message.empty());
  }
}

TEST_P(TransportContract, AnUnknownTableFails) {
  std::vector<std::byte> out(kRowBytes);
  served_->transport->submit(1, {{kPeer, 9, {0}, kRowBytes, out.data()}}, sink_);
  EXPECT_EQ(sink_->wait(1).status, CompletionStatus::kFailed);
}

TEST_P(TransportContract, SubmittingAfterCloseFailsAtOnce) {
  served_->transport->close();
  served_->transport->close();
  std::vector<std::byte> out(kRowBytes);
  served_->transport->submit(1, {{kPeer, 3, {0}, kRowBytes, out.data()}}, sink_);
  EXPECT_EQ(sink_->wait(1).status, CompletionStatus::kFailed);
}

TEST_P(TransportContract, CancellingWhatIsUnknownIsHarmless) {
  served_->transport->cancel(12345);
  std::vector<std::byte> out(kRowBytes);
  served_->transport->submit(1, {{kPeer, 3, {0}, kRowBytes, out.data()}}, sink_);
  EXPECT_EQ(sink_->wait(1).status, CompletionStatus::kDone);
}

TEST_P(TransportContract, SeveralAreCancelledTogether) {
  std::vector<std::byte> out(10 * kRowBytes);
  std::vector<Ticket> tickets{999};
  for (Ticket ticket = 1; ticket <= 10; ++ticket) {
    served_->transport->submit(ticket, {{kPeer, 3, {0}, kRowBytes, out.data() + (ticket - 1) * kRowBytes}},
                               sink_);
    tickets.push_back(ticket);
  }
  served_->transport->cancel_all(tickets);
  const auto completions = sink_->completions();
  const auto before = out;
  std::vector<std::byte> other(kRowBytes);
  served_->transport->submit(11, {{kPeer, 3, {1}, kRowBytes, other.data()}}, sink_);
  EXPECT_EQ(sink_->wait(11).status, CompletionStatus::kDone);
  EXPECT_EQ(sink_->completions(), completions + 1);
  EXPECT_EQ(out, before);
}

TEST_P(TransportContract, SaysWhatItReaches) {
  EXPECT_TRUE(served_->transport->reach(kPeer, 3, kRowBytes).possible);
  EXPECT_FALSE(served_->transport->name().empty());
}

TEST_P(TransportContract, SaysWhereRowsComeFromAlsoWhenItReachesNothingAnyMore) {
  for (const bool closed : {false, true}) {
    if (closed) served_->transport->close();
    EXPECT_EQ(served_->transport->place(kPeer), served_->places[0]);
    EXPECT_EQ(served_->transport->place(kOther), served_->places[1]);
  }
}

const std::vector<std::pair<const char*, Maker>> kMakers = {{"loopback", loopback},
                                                            {"shm", shm},
#ifdef RUDDER_HAVE_UCX
                                                            {"ucx", ucx},
                                                            {"ucx_gets", ucx_gets},
#endif
                                                            {"callback", callback}};

INSTANTIATE_TEST_SUITE_P(All, TransportContract, testing::ValuesIn(kMakers),
                         [](const auto& info) { return info.param.first; });

// -- what only one of them does

TEST(Shm, AttachRefusesWhatIsNotThere) {
  Shm transport;
  EXPECT_THROW(transport.attach(kPeer, 1, "rudder-test-absent", 1, 8, 0), Error);
  const std::string name = segment_of(make_rows(1), 0, 7);
  EXPECT_THROW(transport.attach(kPeer, 1, name, kRows + 1, kRowBytes, 0),
               Error);  // truncated, or another table
  EXPECT_THROW(transport.attach(kPeer, 1, name, kRows, kRowBytes, 1), Error);
  EXPECT_THROW(transport.attach(kPeer, 1, name, kRows, 0, 0), Error);
  EXPECT_THROW(transport.attach(kPeer, 1, name, ~std::size_t{0}, kRowBytes, 0), Error);
  transport.attach(kPeer, 1, name, kRows, kRowBytes, 0);
  shm_unlink(name.c_str());
  EXPECT_TRUE(transport.reach(kPeer, 1, kRowBytes).possible);
  EXPECT_FALSE(transport.reach(kPeer, 1, kRowBytes * 2).possible);
  EXPECT_FALSE(transport.reach(kOther, 1, kRowBytes).possible);
}

TEST(Loopback, ACancelledStallWritesNothingAndCompletesNothing) {
  const auto served = loopback();
  auto& transport = static_cast<Loopback&>(*served->transport);
  const auto sink = std::make_shared<Sink>();
  transport.inject({.stall = true, .after = 1});
  std::vector<std::byte> out(kRowBytes, std::byte{1});
  transport.submit(1, {{kPeer, 3, {0}, kRowBytes, out.data()}}, sink);
  EXPECT_EQ(sink->wait(1).status, CompletionStatus::kDone);
  const auto before = out;
  transport.submit(2, {{kPeer, 3, {1}, kRowBytes, out.data()}}, sink);
  transport.cancel(2);
  transport.inject({});
  transport.submit(3, {{kPeer, 3, {0}, kRowBytes, out.data()}}, sink);
  sink->wait(3);
  EXPECT_EQ(sink->completions(), 2u);
  EXPECT_EQ(out, before);
}

TEST(Callback, APlaceThatNobodyGaveIsNotKnown) {
  const Callback transport("pull", [](TableId, auto, auto, const Callback::Deliver&) {}, {"here"});
  EXPECT_EQ(transport.place(PartId{0}), "here");
  EXPECT_EQ(transport.place(kPeer), "");
}

TEST(Callback, AnAnswerOfAnotherSizeFails) {
  Callback transport("short", [](TableId, auto, auto, const Callback::Deliver& deliver) {
    const std::vector<std::byte> few(3);
    deliver(few);
  });
  const auto sink = std::make_shared<Sink>();
  std::vector<std::byte> out(kRowBytes);
  transport.submit(1, {{kPeer, 3, {0}, kRowBytes, out.data()}}, sink);
  EXPECT_EQ(sink->wait(1).status, CompletionStatus::kFailed);
}

TEST(Callback, TheAnswerToACancelledPullIsThrownAway) {
  std::mutex mutex;
  std::condition_variable changed;
  bool pulling = false, go_on = false;
  Callback transport("slow", [&](TableId, auto, auto rows, const Callback::Deliver& deliver) {
    std::unique_lock lock(mutex);
    pulling = true;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
    deliver(std::vector<std::byte>(rows.size() * kRowBytes, std::byte{9}));
  });
  const auto sink = std::make_shared<Sink>();
  std::vector<std::byte> out(kRowBytes, std::byte{1});
  transport.submit(1, {{kPeer, 3, {0}, kRowBytes, out.data()}}, sink);
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return pulling; });
    transport.cancel(1);
    go_on = true;
    changed.notify_all();
  }
  std::vector<std::byte> second(kRowBytes);
  transport.submit(2, {{kPeer, 3, {0}, kRowBytes, second.data()}}, sink);
  EXPECT_EQ(sink->wait(2).status, CompletionStatus::kDone);
  EXPECT_EQ(sink->completions(), 1u);
  EXPECT_EQ(out, std::vector<std::byte>(kRowBytes, std::byte{1}));
}

}  // namespace
}  // namespace rudder

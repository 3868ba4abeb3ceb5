// A feature server and its clients in one process, over TCP on the loopback device. Faults that need
// processes of their own are in tests/distributed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <latch>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "common/error.h"
#include "transport/sink.h"
#include "transport/ucx/client.h"
#include "transport/ucx/server.h"

namespace rudder {
namespace {

const ucx::WorkerConfig kLoopback{"lo", "tcp"};
const ucx::WorkerConfig kEmulating{.devices = "lo", .tls = "tcp", .emulate_gets = true};
const std::string kVersion = ucx::library_version();
const std::string kPlace = "10.0.0.2:7000";
constexpr PartId kPeer{1};
constexpr std::size_t kRows = 5000;

class UcxTest : public testing::TestWithParam<std::size_t> {
 protected:
  static constexpr wire::Token kToken{std::byte{9}, std::byte{8}};

  const std::size_t row_bytes_ = GetParam();
  std::vector<std::byte> table_ = [this] {
    std::mt19937_64 random(3);
    std::vector<std::byte> bytes(kRows * row_bytes_);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    return bytes;
  }();
  std::unique_ptr<FeatureServer> server_ =
      std::make_unique<FeatureServer>(FeatureServer::Config{.worker = kLoopback});
  FeatureServer::RegionId region_ = server_->expose(table_.data(), kRows, row_bytes_);
  std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();

  std::unique_ptr<Ucx> client(std::uint64_t session, std::size_t in_flight = 4 << 20) {
    auto client = std::make_unique<Ucx>(Ucx::Config{.worker = kLoopback, .in_flight_bytes = in_flight});
    meet(*client, session);
    server_->admit(session, kToken, client->address());
    server_->grant(session, 3, region_);
    client->connect(kPeer, server_->address(), session, kToken, kVersion, kPlace);
    client->open(kPeer, 3, kRows, row_bytes_);
    return client;
  }
  // What the door does first.
  void meet(Ucx& client, std::uint64_t session) {
    server_->let_in(session, client.hosts());
    client.let_in(kPeer, server_->hosts());
  }
  // Gathers rows of `count` random numbers and compares every byte.
  void gather(Ucx& from, Ticket ticket, std::size_t count, Sink& sink, const std::shared_ptr<Sink>& shared) {
    std::mt19937_64 random(ticket);
    std::vector<std::int64_t> rows(count);
    for (auto& row : rows) row = static_cast<std::int64_t>(random() % kRows);
    std::vector<std::byte> out(count * row_bytes_ + 1, std::byte{0x77});
    from.submit(ticket, {{kPeer, 3, rows, row_bytes_, out.data()}}, shared);
    const Completion completion = sink.wait(ticket);
    ASSERT_EQ(completion.status, CompletionStatus::kDone) << completion.message;
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_EQ(std::memcmp(out.data() + i * row_bytes_,
                            table_.data() + static_cast<std::size_t>(rows[i]) * row_bytes_, row_bytes_),
                0)
          << "row " << i;
    ASSERT_EQ(out.back(), std::byte{0x77});
  }
};

INSTANTIATE_TEST_SUITE_P(RowBytes, UcxTest, testing::Values(1, 12, 512, 4096));

TEST_P(UcxTest, GathersOfAllSizesArriveBitForBit) {
  const auto from = client(1);
  Ticket ticket = 0;
  for (const std::size_t count : {1, 2, 7, 100, 1000, 4999, 40000})
    gather(*from, ++ticket, count, *sink_, sink_);
  EXPECT_EQ(from->stats().in_flight_bytes, 0u);
  EXPECT_EQ(from->stats().rows, 1u + 2 + 7 + 100 + 1000 + 4999 + 40000);
  EXPECT_EQ(from->stats().errors, 0u);
  EXPECT_EQ(server_->stats().refused, 0u);
}

TEST_P(UcxTest, ClientsAtOnceAreAllServed) {
  constexpr int kClients = 4;
  std::vector<std::unique_ptr<Ucx>> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(client(static_cast<std::uint64_t>(i) + 1));
  EXPECT_EQ(server_->stats().sessions, 4u);
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i)
    threads.emplace_back([&, i] {
      const auto sink = std::make_shared<Sink>();
      for (Ticket ticket = 1; ticket <= 10; ++ticket)
        gather(*clients[static_cast<std::size_t>(i)], 100 * ticket + static_cast<Ticket>(i), 3000, *sink,
               sink);
    });
  for (auto& thread : threads) thread.join();
}

TEST_P(UcxTest, AForgedTokenIsNotAnswered) {
  Ucx forger(Ucx::Config{.worker = kLoopback});
  meet(forger, 1);
  server_->admit(1, kToken, forger.address());
  server_->grant(1, 3, region_);
  wire::Token wrong = kToken;
  wrong[15] = std::byte{1};
  forger.connect(kPeer, server_->address(), 1, wrong, kVersion, kPlace);
  forger.open(kPeer, 3, kRows, row_bytes_);
  std::vector<std::byte> out(row_bytes_, std::byte{0x11});
  forger.submit(1, {{kPeer, 3, {0}, row_bytes_, out.data()}}, sink_);
  // Another, honest client shows that the server has come past the forged request.
  const auto honest = client(2);
  gather(*honest, 2, 10, *sink_, sink_);
  while (server_->stats().refused == 0) gather(*honest, 3 + server_->stats().requests, 1, *sink_, sink_);
  forger.cancel(1);
  EXPECT_EQ(out, std::vector<std::byte>(row_bytes_, std::byte{0x11}));
}

TEST_P(UcxTest, WhatIsNotGrantedIsRefusedWithAReason) {
  const auto from = client(1);
  from->open(kPeer, 4, kRows, row_bytes_);  // the client believes so
  std::vector<std::byte> out(2 * row_bytes_);
  from->submit(1, {{kPeer, 4, {0}, row_bytes_, out.data()}}, sink_);
  EXPECT_NE(sink_->wait(1).message.find("table 4 is not open"), std::string::npos) << sink_->wait(1).message;
  from->open(kPeer, 3, kRows + 1, row_bytes_);
  from->submit(2, {{kPeer, 3, {0, kRows}, row_bytes_, out.data()}}, sink_);
  EXPECT_NE(sink_->wait(2).message.find("outside the peer's table"), std::string::npos);
  gather(*from, 3, 10, *sink_, sink_);  // and goes on
}

TEST_P(UcxTest, ADismissedSessionGetsNothingAndANewOneServesAgain) {
  const auto from = client(1);
  gather(*from, 1, 10, *sink_, sink_);
  server_->dismiss(1);
  std::vector<std::byte> out(row_bytes_, std::byte{0x11});
  from->submit(2, {{kPeer, 3, {0}, row_bytes_, out.data()}}, sink_);
  // The door is what tells the client; until then its gathers wait.
  from->disconnect(kPeer, "the door says so");
  EXPECT_EQ(sink_->wait(2).status, CompletionStatus::kFailed);
  EXPECT_NE(sink_->wait(2).message.find("the door says so"), std::string::npos) << sink_->wait(2).message;
  EXPECT_EQ(out, std::vector<std::byte>(row_bytes_, std::byte{0x11}));
  EXPECT_FALSE(from->connected(kPeer));
  EXPECT_FALSE(from->reach(kPeer, 3, row_bytes_).possible);
  meet(*from, 2);
  server_->admit(2, kToken, from->address());
  server_->grant(2, 3, region_);
  from->connect(kPeer, server_->address(), 2, kToken, kVersion, kPlace);
  from->open(kPeer, 3, kRows, row_bytes_);
  gather(*from, 3, 100, *sink_, sink_);
}

TEST_P(UcxTest, AServerThatGoesFailsWhatIsUnderWay) {
  const auto from = client(1);
  gather(*from, 1, 10, *sink_, sink_);
  std::vector<std::byte> out(200'000 * row_bytes_);
  std::vector<std::int64_t> rows(200'000, 1);
  from->submit(2, {{kPeer, 3, rows, row_bytes_, out.data()}}, sink_);
  server_.reset();
  const Ucx::Loss loss = from->next_loss().value();
  EXPECT_EQ(loss.peer, kPeer);
  EXPECT_EQ(loss.session, 1u);
  const Completion completion = sink_->wait(2);
  if (completion.status == CompletionStatus::kFailed) {
    EXPECT_NE(completion.message.find("partition 1"), std::string::npos) << completion.message;
  } else {
    EXPECT_TRUE(std::ranges::equal(std::span(out).last(row_bytes_),
                                   std::span(table_).subspan(row_bytes_, row_bytes_)));
  }
  EXPECT_FALSE(from->connected(kPeer));
}

TEST_P(UcxTest, AClientThatGoesIsDismissed) {
  auto from = client(1);
  gather(*from, 1, 10, *sink_, sink_);
  from.reset();
  const auto other = client(2);
  Ticket ticket = 10;
  std::vector<FeatureServer::SessionId> gone;
  while (gone.empty()) {
    gather(*other, ++ticket, 10, *sink_, sink_);
    gone = server_->dismissed();
  }
  EXPECT_EQ(gone, std::vector<FeatureServer::SessionId>{1});
  EXPECT_EQ(server_->stats().sessions, 1u);
}

TEST_P(UcxTest, NothingIsWrittenAfterCancel) {
  const auto from = client(1);
  gather(*from, 1, 10, *sink_, sink_);
  std::mt19937_64 random(1);
  for (Ticket ticket = 100; ticket < 130; ++ticket) {
    const std::vector<std::int64_t> rows(std::min<std::size_t>(20'000, (8 << 20) / row_bytes_), 2);
    auto out = std::make_unique<std::vector<std::byte>>(rows.size() * row_bytes_, std::byte{0x22});
    from->submit(ticket, {{kPeer, 3, rows, row_bytes_, out->data()}}, sink_);
    for (std::size_t spins = random() % 20000; spins > 0; --spins)
      std::atomic_signal_fence(std::memory_order_seq_cst);
    from->cancel(ticket);
    const auto copy = *out;
    gather(*from, ticket + 1000, 10, *sink_, sink_);
    EXPECT_EQ(copy, *out);
    out.reset();  // the address sanitizer sees a late write
  }
  // The answers that nobody wants any more come in as well, and are counted off.
  for (Ticket ticket = 5000; from->stats().in_flight_bytes != 0; ++ticket)
    gather(*from, ticket, 10, *sink_, sink_);
}

TEST_P(UcxTest, ManySmallGathersAtOnceStayWithinTheServersBounds) {
  const auto from = client(1, 1 << 20);
  constexpr Ticket kTickets = 2000;
  std::vector<std::byte> out(kTickets * row_bytes_);
  for (Ticket ticket = 0; ticket < kTickets; ++ticket)
    from->submit(
        ticket,
        {{kPeer, 3, {static_cast<std::int64_t>(ticket)}, row_bytes_, out.data() + ticket * row_bytes_}},
        sink_);
  for (Ticket ticket = 0; ticket < kTickets; ++ticket)
    ASSERT_EQ(sink_->wait(ticket).status, CompletionStatus::kDone) << sink_->wait(ticket).message;
  EXPECT_EQ(std::memcmp(out.data(), table_.data(), out.size()), 0);
  EXPECT_EQ(server_->stats().refused, 0u);
}

// As UCX plays them over TCP.
TEST_P(UcxTest, OneSidedGetsAskTheServerNothing) {
  server_ = std::make_unique<FeatureServer>(FeatureServer::Config{.worker = kEmulating});
  region_ = server_->expose(table_.data(), kRows, row_bytes_);
  Ucx from({.worker = kEmulating, .in_flight_bytes = 4 << 20});
  meet(from, 1);
  server_->admit(1, kToken, from.address());
  server_->grant(1, 3, region_);
  from.connect(kPeer, server_->address(), 1, kToken, kVersion, kPlace);
  from.open(kPeer, 3, kRows, row_bytes_, server_->offer(region_));
  EXPECT_EQ(from.why_no_gets(kPeer, 3), "");
  from.use_gets(kPeer, 3, true);
  Ticket ticket = 0;
  for (const std::size_t count : {1, 7, 1000, 5000}) gather(from, ++ticket, count, *sink_, sink_);

  std::vector<std::int64_t> rows(kRows);  // neighbours, which one get takes
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<std::byte> out(table_.size());
  from.submit(++ticket, {{kPeer, 3, rows, row_bytes_, out.data()}}, sink_);
  ASSERT_EQ(sink_->wait(ticket).status, CompletionStatus::kDone) << sink_->wait(ticket).message;
  EXPECT_EQ(out, table_);

  for (int i = 0; i < 10; ++i) {
    auto late = std::make_unique<std::vector<std::byte>>(table_.size(), std::byte{0x22});
    from.submit(++ticket, {{kPeer, 3, rows, row_bytes_, late->data()}}, sink_);
    from.cancel(ticket);
    const auto copy = *late;
    gather(from, ++ticket, 10, *sink_, sink_);
    EXPECT_EQ(copy, *late);
  }
  EXPECT_EQ(server_->stats().requests, 0u);
  EXPECT_EQ(from.stats().in_flight_bytes, 0u);
  from.use_gets(kPeer, 3, false);
  gather(from, ++ticket, 10, *sink_, sink_);
  EXPECT_GT(server_->stats().requests, 0u);

  from.use_gets(kPeer, 3, true);
  from.submit(++ticket, {{kPeer, 3, rows, row_bytes_, out.data()}}, sink_);
  server_.reset();
  EXPECT_EQ(from.next_loss().value().peer, kPeer);
  sink_->wait(ticket);  // one way or the other
  EXPECT_FALSE(from.reach(kPeer, 3, row_bytes_).possible);
}

// A server and a client whose gets UCX plays over TCP, and its table 3 open, or why it cannot be read by
// gets.
class Gets : public testing::Test {
 protected:
  static constexpr std::size_t kRowBytes = 64;

  FeatureServer server_{{.worker = kEmulating}};
  Ucx client_{{.worker = kEmulating}};
  std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();

  void open(FeatureServer::RegionId region, const wire::Offer& offer, const std::string& version = kVersion) {
    server_.let_in(1, client_.hosts());
    client_.let_in(kPeer, server_.hosts());
    server_.admit(1, {}, client_.address());
    server_.grant(1, 3, region);
    client_.connect(kPeer, server_.address(), 1, {}, version, kPlace);
    client_.open(kPeer, 3, 10, kRowBytes, offer);
    client_.use_gets(kPeer, 3, true);
  }
  std::vector<std::byte> row(std::int64_t number) {
    std::vector<std::byte> out(kRowBytes);
    client_.submit(1, {{kPeer, 3, {number}, kRowBytes, out.data()}}, sink_);
    EXPECT_EQ(sink_->wait(1).status, CompletionStatus::kDone) << sink_->wait(1).message;
    return out;
  }
};

TEST_F(Gets, ReadMemoryThatTheServerCannotWrite) {
  const std::string name = "rudder-test-" + std::to_string(getpid()) + "-gets";
  const std::vector<std::byte> rows(10 * kRowBytes, std::byte{6});
  const int fd = shm_open(("/" + name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(write(fd, rows.data(), rows.size()), static_cast<ssize_t>(rows.size()));
  ::close(fd);
  const auto region = server_.expose(name, 10, kRowBytes, 0);
  open(region, server_.offer(region));
  EXPECT_EQ(client_.why_no_gets(kPeer, 3), "");
  EXPECT_EQ(row(7), std::vector<std::byte>(kRowBytes, std::byte{6}));
  EXPECT_EQ(server_.stats().requests, 0u);
  std::ifstream maps("/proc/self/maps");
  std::size_t mappings = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) == std::string::npos) continue;
    EXPECT_NE(line.find(" r--s "), std::string::npos) << line;
    ++mappings;
  }
  EXPECT_EQ(mappings, 1u);
  shm_unlink(("/" + name).c_str());
}

TEST_F(Gets, AreOffForATableThatUcxDoesNotRegister) {
  const auto region = server_.expose(nullptr, 10, kRowBytes);  // as a device may refuse memory
  const wire::Offer offer = server_.offer(region);
  EXPECT_TRUE(offer.key.empty());
  open(region, offer);
  EXPECT_EQ(client_.why_no_gets(kPeer, 3), "the server offers no key to its memory: " + offer.why_not);
  EXPECT_NE(offer.why_not.find("UCX registers no memory that can only be read"), std::string::npos);
}

TEST_F(Gets, AreOffBetweenVersionsOfUcx) {
  const std::vector<std::byte> rows(10 * kRowBytes, std::byte{5});
  const auto region = server_.expose(rows.data(), 10, kRowBytes);
  open(region, server_.offer(region), "1.11.0");
  EXPECT_NE(client_.why_no_gets(kPeer, 3).find("the server has UCX 1.11.0, this process " + kVersion),
            std::string::npos);
  EXPECT_EQ(row(3), std::vector<std::byte>(kRowBytes, std::byte{5}));
  EXPECT_EQ(server_.stats().requests, 1u);
}

TEST_F(Gets, AreOffWithBytesThatAreNoKey) {
  const std::vector<std::byte> rows(10 * kRowBytes);
  const auto region = server_.expose(rows.data(), 10, kRowBytes);
  open(region, {0, std::vector<std::byte>(100'000), {}});
  EXPECT_EQ(client_.why_no_gets(kPeer, 3), "100000 bytes that are no key of UCX");
}

TEST_P(UcxTest, WithoutRdmaThereAreNoGetsAndTheReasonIsGiven) {
  const auto from = client(1);
  EXPECT_TRUE(server_->offer(region_).key.empty());
  EXPECT_EQ(server_->offer(region_).why_not, "UCX finds no RDMA device");
  EXPECT_EQ(from->why_no_gets(kPeer, 3), "UCX finds no RDMA device");
  from->use_gets(kPeer, 3, true);  // of no effect
  gather(*from, 1, 100, *sink_, sink_);
  EXPECT_GT(server_->stats().requests, 0u);
}

TEST(Ucx, WhatIsNoAddressIsRefused) {
  FeatureServer server({.worker = kLoopback});
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::byte> garbage(random() % 300);
    for (auto& byte : garbage) byte = static_cast<std::byte>(random());
    // Of the right format it is UCX's to judge, and only members of the job get there.
    if (!garbage.empty()) garbage[0] = (server.address()[0] ^ std::byte{0x05}) & std::byte{0x0f};
    EXPECT_THROW(server.admit(static_cast<std::uint64_t>(round), {}, garbage), Error);
  }
  EXPECT_THROW(server.admit(1, {}, std::vector<std::byte>(100'000, server.address()[0])), Error);
  EXPECT_EQ(server.stats().sessions, 0u);
}

TEST(Ucx, WhoWaitsForALossIsReleasedByTheEnd) {
  Ucx transport({.worker = kLoopback});
  std::thread waiting([&] { EXPECT_FALSE(transport.next_loss().has_value()); });
  transport.close();
  waiting.join();
  EXPECT_FALSE(transport.next_loss().has_value());
}

TEST(Ucx, ATicketInUseFails) {
  Ucx transport({.worker = kLoopback});
  FeatureServer server({.worker = kLoopback});
  server.let_in(1, transport.hosts());
  transport.let_in(kPeer, server.hosts());
  server.admit(1, {}, transport.address());
  transport.connect(kPeer, server.address(), 1, {}, kVersion, kPlace);
  transport.open(kPeer, 3, 1, 1);
  server.dismiss(1);
  const auto sink = std::make_shared<Sink>(), again = std::make_shared<Sink>();
  std::byte out{};
  transport.submit(7, {{kPeer, 3, {0}, 1, &out}}, sink);  // never answered
  transport.submit(7, {{kPeer, 3, {0}, 1, &out}}, again);
  EXPECT_NE(again->wait(7).message.find("in use"), std::string::npos);
  transport.cancel(7);
  EXPECT_EQ(sink->completions(), 0u);
}

TEST(Ucx, SettingsThatCannotWorkAreTypedErrors) {
  EXPECT_THROW(Ucx({.worker = {"no-such-device0", "tcp"}}), Error);
  EXPECT_THROW(Ucx({.worker = kLoopback, .in_flight_bytes = 10, .chunk_bytes = 20}), Error);
  Ucx transport({.worker = kLoopback, .chunk_bytes = 1024});
  EXPECT_THROW(transport.open(kPeer, 1, 1, 1), Error);  // not connected
  EXPECT_THROW(transport.open(kPeer, 1, 1, 2048), Error);
  FeatureServer server({.worker = kLoopback, .chunk_bytes = 1024});
  const std::vector<std::byte> row(2048);
  EXPECT_THROW(server.expose(row.data(), 1, 2048), Error);
  EXPECT_THROW(server.expose(row.data(), 1, 0), Error);
  EXPECT_THROW(server.expose("rudder-test-absent", 1, 8, 0), Error);
  EXPECT_THROW(server.grant(1, 1, 0), Error);
  server.close();
  transport.close();
  EXPECT_THROW(server.admit(1, {}, transport.address()), Error);
  EXPECT_THROW(transport.connect(kPeer, server.address(), 1, {}, kVersion, kPlace), Error);
}

}  // namespace
}  // namespace rudder

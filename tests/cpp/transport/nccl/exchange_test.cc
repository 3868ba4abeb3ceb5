#include "transport/nccl/exchange.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <numeric>

#include "transport/nccl/communicator.h"
#include "transport/nccl/peers.h"
#include "transport/nccl/ranks.h"

namespace rudder::nccl {
namespace {

using std::chrono::milliseconds;
using Ids = std::vector<std::int64_t>;

Ids random_ids(std::mt19937& random, std::int64_t rows, std::size_t most) {
  Ids ids(random() % (most + 1));
  for (auto& id : ids) id = static_cast<std::int64_t>(random()) % rows;
  return ids;
}

RoundPtr begin(Exchange& exchange, const Ids& ids, std::byte* out, bool done = false) {
  return exchange.start(std::span<const std::int64_t>(ids), out, std::nullopt, done);
}

struct Caught {
  ErrorCode code = ErrorCode::kState;
  int part = -2;
  std::string text;
};

template <class Call>
Caught caught(Call call) {
  try {
    call();
  } catch (const FetchError& error) {
    return {error.code(), error.part(), error.what()};
  } catch (const Error& error) {
    return {error.code(), -1, error.what()};
  }
  return {};
}

struct Setting {
  std::vector<std::int64_t> part_starts;
  std::size_t row_bytes;
  Where shard, destination;
};

class Rounds : public testing::TestWithParam<Setting> {};

TEST_P(Rounds, RowsAreThoseOfTheSourceBitForBit) {
  const Setting& setting = GetParam();
  Ranks ranks(setting.part_starts, setting.row_bytes, setting.shard);
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    std::mt19937 random(static_cast<unsigned>(rank));
    std::uint64_t got = 0;
    for (int number = 0; number < 20; ++number) {
      // Uneven: now and then nothing, now and then hundreds of rows.
      const Ids ids = random_ids(random, ranks.ids(), number % 3 == 0 ? 0 : 300);
      const Memory out(setting.destination, ids.size() * setting.row_bytes);
      out.data()[ids.size() * setting.row_bytes] = std::byte{0x5a};
      const bool narrow = number % 2 == 0;
      const std::vector<std::int32_t> small(ids.begin(), ids.end());
      const RoundPtr round =
          narrow ? exchange.start(std::span<const std::int32_t>(small), out.data(), std::nullopt, false)
                 : begin(exchange, ids, out.data());
      exchange.wait(round);
      ranks.expect_rows(*round, ids, out.data());
      EXPECT_FALSE(round->all_done());
      got += static_cast<std::uint64_t>(std::count_if(ids.begin(), ids.end(), [&](std::int64_t id) {
        return id < setting.part_starts[rank] || id >= setting.part_starts[rank + 1];
      }));
    }
    EXPECT_EQ(exchange.stats().rounds, 20u);
    EXPECT_EQ(exchange.stats().rows_got, got);
    EXPECT_TRUE(exchange.at_rest());
  });
}

INSTANTIATE_TEST_SUITE_P(
    All, Rounds,
    testing::Values(Setting{{0, 50}, 16, Where::kPageable, Where::kPinned},
                    Setting{{0, 50, 120}, 1, Where::kPageable, Where::kDevice},
                    Setting{{0, 50, 120}, 24, Where::kDevice, Where::kDevice},
                    Setting{{0, 50, 50, 120}, 513, Where::kPinned, Where::kPinned},  // one owns nothing
                    Setting{{0, 9, 50, 120, 4000}, 400, Where::kDevice, Where::kPinned}));

TEST(Exchange, RoundsStartedAheadRunInTheirOrder) {
  Ranks ranks({0, 40, 100}, 32);
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    std::mt19937 random(static_cast<unsigned>(rank) + 9);
    std::vector<Ids> ids;
    std::vector<std::unique_ptr<Memory>> out;
    std::vector<RoundPtr> rounds;
    for (int number = 0; number < 8; ++number) {
      ids.push_back(random_ids(random, ranks.ids(), 100));
      out.push_back(std::make_unique<Memory>(Where::kDevice, ids.back().size() * 32));
      out.back()->data()[ids.back().size() * 32] = std::byte{0x5a};
      rounds.push_back(begin(exchange, ids.back(), out.back()->data()));
    }
    for (std::size_t number = 0; number < rounds.size(); ++number) {
      exchange.wait(rounds[number]);
      ranks.expect_rows(*rounds[number], ids[number], out[number]->data());
    }
  });
}

TEST(Exchange, OwnRowsCrossNcclWhereThatIsAskedFor) {
  Ranks ranks({0, 64}, 48, Where::kDevice);
  auto config = ranks.config(0);
  config.self_by_nccl = true;
  Exchange exchange(config);
  Ids ids(100);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i * 7 % 64);
  const Memory out(Where::kDevice, ids.size() * 48);
  out.data()[ids.size() * 48] = std::byte{0x5a};
  const RoundPtr round = begin(exchange, ids, out.data());
  exchange.wait(round);
  ranks.expect_rows(*round, ids, out.data());
}

TEST(Exchange, ARankThatHasRunOutServesTheOthersUntilAllHave) {
  Ranks ranks({0, 40, 100, 130}, 8);
  const std::vector<int> minibatches{1, 4, 2};
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    std::mt19937 random(static_cast<unsigned>(rank));
    for (int epoch = 0; epoch < 2; ++epoch) {
      int rounds = 0;
      for (; rounds < minibatches[rank]; ++rounds) {
        const Ids ids = random_ids(random, ranks.ids(), 50);
        const Memory out(Where::kPinned, ids.size() * 8);
        out.data()[ids.size() * 8] = std::byte{0x5a};
        const RoundPtr round = begin(exchange, ids, out.data());
        exchange.wait(round);
        ranks.expect_rows(*round, ids, out.data());
      }
      bool all_done = false;
      for (; !all_done; ++rounds) {
        const RoundPtr round = begin(exchange, {}, nullptr, true);
        exchange.wait(round);
        all_done = round->all_done();
      }
      EXPECT_EQ(rounds, 5);  // four with rows on some rank, and the one in which all had run out
    }
  });
}

TEST(Exchange, AnIdOutsideTheTableBeginsNoRound) {
  Ranks ranks({0, 40, 100}, 8);
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    const Memory out(Where::kPinned, 8);
    out.data()[8] = std::byte{0x5a};
    for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{100}, std::int64_t{1} << 40}) {
      try {
        begin(exchange, {bad}, out.data());
        FAIL();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kOutOfRange);
      }
    }
    const RoundPtr round = begin(exchange, {77}, out.data());
    exchange.wait(round);
    ranks.expect_rows(*round, {77}, out.data());
  });
}

TEST(Exchange, RefusesWhatCannotWork) {
  Ranks ranks({0, 10}, 8);
  {
    Exchange exchange(ranks.config(0));
    std::byte pageable[8];
    EXPECT_THROW(begin(exchange, {1}, pageable), Error);
    EXPECT_THROW(begin(exchange, {1}, pageable, true), Error);
    const Memory out(Where::kDevice, 8);
    OnStream captured(0);
    fake_cuda().begin_capture(captured.handle(), 0);
    EXPECT_EQ(
        caught([&] {
          exchange.start(std::span<const std::int64_t>(Ids{1}), out.data(), captured.handle(), false);
        }).text,
        "a round cannot begin on a stream that is being captured into a CUDA graph: it is over when the "
        "graph is run");
    exchange.close();
    exchange.close();
    EXPECT_THROW(begin(exchange, {}, nullptr), Error);
  }
  auto config = ranks.config(0);
  config.row_bytes = 0;
  EXPECT_THROW(Exchange{config}, Error);
  config = ranks.config(0);
  config.device = 99;
  EXPECT_THROW(Exchange{config}, Error);
  config = ranks.config(0);
  config.nccl_files = {"/absent/libnccl.so.2", "libnccl-absent.so"};
  try {
    Exchange{config};
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTransport);
    EXPECT_NE(std::string(error.what()).find("libnccl-absent.so"), std::string::npos) << error.what();
  }
  const Environment none("FAKE_CUDA_DEVICES", "0");
  EXPECT_THROW(Exchange{ranks.config(0)}, Error);
}

TEST(Exchange, WithoutAKernelAShardInDeviceMemoryIsServedByCopies) {
  Ranks ranks({0, 40, 100}, 24, Where::kDevice);
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    config.gather = nullptr;
    Exchange exchange(config);
    EXPECT_EQ(exchange.serving(), Serving::kCopies);
    std::mt19937 random(static_cast<unsigned>(rank));
    for (int number = 0; number < 10; ++number) {
      Ids ids = random_ids(random, ranks.ids(), 60);
      if (number % 2 == 0) std::sort(ids.begin(), ids.end());  // rows that lie beside each other go as one
      const Memory out(Where::kDevice, ids.size() * 24);
      out.data()[ids.size() * 24] = std::byte{0x5a};
      const RoundPtr round = begin(exchange, ids, out.data());
      exchange.wait(round);
      ranks.expect_rows(*round, ids, out.data());
    }
  });
}

TEST(Exchange, WhoGathersRowsDependsOnWhereTheShardLies) {
  for (const Where where : {Where::kPageable, Where::kPinned, Where::kDevice})
    for (const bool kernel : {false, true}) {
      Ranks ranks({0, 10}, 8, where);
      auto config = ranks.config(0);
      config.gather = kernel ? gather_on_stream : Exchange::GatherRows{};
      Serving expected = where == Where::kDevice ? Serving::kCopies : Serving::kProcessor;
      if (kernel && where != Where::kPageable) expected = Serving::kKernel;
      EXPECT_EQ(Exchange(config).serving(), expected);
    }
}

TEST(Exchange, RanksThatDisagreeAboutTheTableFailAtTheStart) {
  for (const bool rows : {true, false}) {
    Ranks ranks({0, 10, 20}, 8);
    ranks.run([&](std::size_t rank) {
      auto config = ranks.config(rank);
      if (rank == 1 && rows) config.row_bytes = 4;
      if (rank == 1 && !rows) config.part_starts = {0, 11, 20};
      EXPECT_THROW(Exchange{config}, Error);
    });
  }
}

// -- failures: each waits for what happens, and ends long before the test's own deadline

// A rank without an exchange: it does what a test tells it to, and no more.
class BareRank {
 public:
  explicit BareRank(const Exchange::Config& config)
      : peers(config.rank, config.sockets),
        sockets_(config.sockets),
        api_(open_nccl(config.nccl_files)),
        comm(api_) {
    std::uint64_t layout = 0xcbf29ce484222325;
    for (const std::int64_t start : config.part_starts)
      layout = (layout ^ static_cast<std::uint64_t>(start)) * 0x100000001b3;
    peers.agree({config.row_bytes, layout});
    comm.open(config.id, config.rank, peers.count(), 0);
    while (!comm.settled()) std::this_thread::yield();
  }
  // Listens until another gives up; why.
  std::string listen() {
    try {
      for (;;) {
        peers.turn(milliseconds(100));
        peers.check(false);
      }
    } catch (const FetchError& error) {
      return error.what();
    }
  }
  // As when its process is killed: its sockets end.
  void die() const {
    for (const int socket : sockets_)
      if (socket >= 0) shutdown(socket, SHUT_RDWR);
  }

  Peers peers;

 private:
  const std::vector<int> sockets_;
  const Api api_;

 public:
  Communicator comm;
};

TEST(Peers, OneThatIsGoneIsNamedWithItsHost) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof place;
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&place), size), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&place), &size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  const int ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(ours, reinterpret_cast<sockaddr*>(&place), size), 0);
  const int theirs = accept(listener, nullptr, nullptr);
  Peers peers(0, {-1, ours});
  for (const int socket : {theirs, ours, listener}) close(socket);
  try {
    for (;;) {
      peers.turn(milliseconds(100));
      peers.check(false);
    }
  } catch (const FetchError& error) {
    EXPECT_EQ(error.part(), 1);
    EXPECT_EQ(error.place(), "127.0.0.1");
    EXPECT_NE(std::string(error.what()).find("rank 1 at 127.0.0.1 is gone"), std::string::npos)
        << error.what();
  }
}

TEST(Exchange, ARankThatIsGoneIsNamedByAllOthers) {
  for (const bool amid_round : {true, false}) {
    Ranks ranks({0, 10, 20, 30}, 8);
    std::vector<Caught> seen(3);
    std::atomic<int> joined{0};
    ranks.run([&](std::size_t rank) {
      if (rank == 2) {
        BareRank bare(ranks.config(2));
        while (joined < 2) std::this_thread::yield();
        if (amid_round)
          for (const int other : {0, 1}) bare.peers.wish(other, {1, 0, false});
        return bare.die();
      }
      const Memory out(Where::kPinned, 8);
      Exchange exchange(ranks.config(rank));
      ++joined;
      seen[rank] = caught([&] { exchange.wait(begin(exchange, {25}, out.data())); });
      // It stays broken, and says why.
      EXPECT_EQ(caught([&] { begin(exchange, {1}, out.data()); }).part, 2);
      EXPECT_TRUE(exchange.at_rest());
    });
    for (const std::size_t rank : {0, 1}) {
      EXPECT_EQ(seen[rank].code, ErrorCode::kTransport);
      EXPECT_EQ(seen[rank].part, 2) << seen[rank].text;
    }
  }
}

TEST(Exchange, ATransferThatHangsEndsAtTheDeadlineOnEveryRank) {
  const Environment fault("FAKE_NCCL_FAULT", "hang:1:3");
  Ranks ranks({0, 10, 20}, 8);
  std::vector<Caught> seen(2);
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    config.deadline = milliseconds(300);
    config.grace = milliseconds(400);
    Exchange exchange(config);
    const Memory out(Where::kDevice, 2 * 8);
    exchange.wait(begin(exchange, {1, 11}, out.data()));
    seen[rank] = caught([&] { exchange.wait(begin(exchange, {1, 11}, out.data())); });
    EXPECT_TRUE(exchange.at_rest());
  });
  // Which of them is the first to give up is chance; the other hears of it.
  const bool late = seen[0].code == ErrorCode::kDeadline || seen[1].code == ErrorCode::kDeadline;
  EXPECT_TRUE(late) << seen[0].text << " / " << seen[1].text;
  for (const Caught& each : seen)
    EXPECT_NE(each.text.find("did not come within"), std::string::npos) << each.text;
}

TEST(Exchange, ARankThatDoesNotBeginItsRoundIsNamedAtTheDeadline) {
  Ranks ranks({0, 10, 20, 30}, 8);
  std::vector<Caught> seen(3);
  std::atomic<int> over{0};
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    config.deadline = milliseconds(300);
    Exchange exchange(config);
    const Memory out(Where::kPinned, 8);
    if (rank != 1) seen[rank] = caught([&] { exchange.wait(begin(exchange, {1}, out.data())); });
    for (++over; over < 3;) std::this_thread::yield();
  });
  for (const int rank : {0, 2}) {
    EXPECT_EQ(seen[rank].part, 1) << seen[rank].text;
    EXPECT_NE(seen[rank].text.find("drain()"), std::string::npos) << seen[rank].text;
  }
}

TEST(Exchange, AnErrorOfNcclReachesEveryRank) {
  const Environment fault("FAKE_NCCL_FAULT", "async:0:2");
  Ranks ranks({0, 10, 20}, 8);
  std::vector<Caught> seen(2);
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    const Memory out(Where::kPinned, 2 * 8);
    seen[rank] = caught([&] { exchange.wait(begin(exchange, {1, 11}, out.data())); });
  });
  EXPECT_EQ(seen[0].code, ErrorCode::kTransport);
  EXPECT_NE(seen[0].text.find("unhandled system error"), std::string::npos) << seen[0].text;
  EXPECT_EQ(seen[1].part, 0) << seen[1].text;
  EXPECT_NE(seen[1].text.find("rank 0 gave up"), std::string::npos) << seen[1].text;
}

TEST(Exchange, AStartThatHangsEndsAtTheDeadline) {
  const Environment fault("FAKE_NCCL_FAULT", "hang:1:0");
  Ranks ranks({0, 10, 20}, 8);
  std::vector<Caught> seen(2);
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    config.deadline = milliseconds(300);
    config.grace = milliseconds(400);
    seen[rank] = caught([&] { Exchange{config}; });
  });
  for (const Caught& each : seen) EXPECT_NE(each.part, -2);
}

TEST(Exchange, WhereNcclsAbortDoesNotComeBackTheWorkerIsLeftBehind) {
  const Environment fault("FAKE_NCCL_FAULT", "stuck:1:1");
  Ranks ranks({0, 10, 20}, 8);
  // Never freed: what the lost worker may still write to.
  static auto& out = *new std::vector<std::unique_ptr<Memory>>;
  for (int rank = 0; rank < 2; ++rank) out.push_back(std::make_unique<Memory>(Where::kPinned, 2 * 8));
  std::vector<Caught> seen(2);
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    config.deadline = milliseconds(300);
    config.grace = milliseconds(200);
    config.device += 6;  // its streams never end; no other test meets them
    Exchange exchange(config);
    seen[rank] = caught([&] { exchange.wait(begin(exchange, {1, 11}, out[rank]->data())); });
    EXPECT_EQ(exchange.at_rest(), rank == 0);
  });
  EXPECT_EQ(seen[1].code, ErrorCode::kDeadline);
  EXPECT_NE(seen[1].text.find("ncclCommAbort"), std::string::npos) << seen[1].text;
}

TEST(Exchange, WhereNcclRefusesToAbortMemoryIsKept) {
  const Environment fault("FAKE_NCCL_FAULT", "refuse:1:3");
  Ranks ranks({0, 10, 20}, 8);
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    config.deadline = milliseconds(1500);
    config.grace = milliseconds(1000);
    Exchange exchange(config);
    const Memory out(Where::kDevice, 2 * 8);
    exchange.wait(begin(exchange, {1, 11}, out.data()));
    EXPECT_NE(caught([&] { exchange.wait(begin(exchange, {1, 11}, out.data())); }).part, -2);
    EXPECT_EQ(exchange.at_rest(), rank == 0);
  });
}

// Own rows never reach NCCL: its abort does not end their copy.
TEST(Exchange, ACopyThatIsStillQueuedMayStillWrite) {
  for (const bool ends : {false, true}) {
    Ranks ranks({0, 10, 20}, 8, Where::kDevice);
    OnStream behind(0);
    behind.block();
    ranks.run([&](std::size_t rank) {
      if (rank == 1) {
        BareRank bare(ranks.config(1));
        bare.peers.wish(0, {1, 0, false});
        bare.listen();  // until rank 0 gives up
        if (ends) behind.open();
        return;
      }
      auto config = ranks.config(0);
      config.deadline = milliseconds(1500);  // the ranks' start has to fit, too
      config.grace = ends ? std::chrono::seconds(60) : milliseconds(300);
      const Memory out(Where::kDevice, 8);
      Exchange exchange(config);
      const RoundPtr round =
          exchange.start(std::span<const std::int64_t>(Ids{3}), out.data(), behind.handle(), false);
      const Caught seen = caught([&] { exchange.wait(round); });
      EXPECT_EQ(seen.code, ErrorCode::kDeadline) << seen.text;
      EXPECT_EQ(exchange.at_rest(), ends);
      exchange.close();
      if (!ends) behind.open();
    });
  }
}

TEST(Exchange, TheStreamOfADestinationIsOfTheExchangesGpuWhicheverIsTheCallers) {
  Ranks ranks({0, 40, 100}, 16, Where::kDevice);
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    fake_cuda().set_device(5);
    OnStream stream(static_cast<int>(rank));
    const Memory out(Where::kDevice, 2 * 16);
    out.data()[2 * 16] = std::byte{0x5a};
    const Ids ids{7, 77};
    const RoundPtr round =
        exchange.start(std::span<const std::int64_t>(ids), out.data(), stream.handle(), false);
    exchange.wait(round);
    ranks.expect_rows(*round, ids, out.data());
    int now = -1;
    fake_cuda().get_device(&now);
    EXPECT_EQ(now, 5);
  });
}

TEST(Exchange, ARoundThatFailsLeavesNoEventBehind) {
  const int before = fake_cuda().events();
  {
    Ranks ranks({0, 10, 20}, 8);
    std::atomic<int> here{0};
    ranks.run([&](std::size_t rank) {
      Exchange exchange(ranks.config(rank));
      for (++here; here < 2;) std::this_thread::yield();
      if (rank == 1) return;  // closes
      OnStream stream(0);
      const Memory out(Where::kDevice, 8);
      std::vector<RoundPtr> rounds;
      EXPECT_NE(caught([&] {
                  for (int number = 0; number < 3; ++number)
                    rounds.push_back(exchange.start(std::span<const std::int64_t>(Ids{11}), out.data(),
                                                    stream.handle(), false));
                  exchange.wait(rounds.back());
                }).part,
                -2);
    });
  }
  EXPECT_EQ(fake_cuda().events(), before);
}

TEST(Exchange, ARankThatClosesTooEarlyIsNamed) {
  Ranks ranks({0, 10, 20}, 8);
  Caught seen;
  ranks.run([&](std::size_t rank) {
    auto config = ranks.config(rank);
    Exchange exchange(config);
    const Memory out(Where::kPinned, 8);
    if (rank == 0) seen = caught([&] { exchange.wait(begin(exchange, {11}, out.data())); });
  });
  EXPECT_EQ(seen.part, 1) << seen.text;
  EXPECT_NE(seen.text.find("has closed its exchange"), std::string::npos) << seen.text;
}

TEST(Exchange, ClosingEndsARoundThatWaits) {
  Ranks ranks({0, 10, 20}, 8);
  std::atomic<bool> over{false};
  std::atomic<int> here{0};
  ranks.run([&](std::size_t rank) {
    Exchange exchange(ranks.config(rank));
    const Memory out(Where::kPinned, 8);
    ++here;
    if (rank == 0) {
      while (here < 2) std::this_thread::yield();  // who is not here yet would learn of it in its constructor
      const RoundPtr round = begin(exchange, {11}, out.data());
      exchange.close();
      EXPECT_EQ(caught([&] { exchange.wait(round); }).code, ErrorCode::kClosed);
      over = true;
    }
    while (!over) std::this_thread::yield();
  });
}

TEST(Exchange, RowNumbersOfAPeerAreChecked) {
  for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{10}, std::int64_t{1} << 50}) {
    Ranks ranks({0, 10, 20}, 8, Where::kDevice);
    Caught seen;
    ranks.run([&](std::size_t rank) {
      if (rank == 0) {
        Exchange exchange(ranks.config(rank));
        seen = caught([&] { exchange.wait(begin(exchange, {}, nullptr)); });
        return;
      }
      const Memory numbers(Where::kPinned, 2 * sizeof(std::int64_t));
      BareRank bare(ranks.config(rank));
      bare.peers.wish(0, {1, 2, false});
      const std::int64_t wanted[] = {3, bad};
      std::memcpy(numbers.data(), wanted, sizeof(wanted));
      bare.comm.exchange({{0, numbers.data(), 2}}, {}, kInt64, nullptr);
      const std::string why = bare.listen();  // rank 0 gives up, and says why
      EXPECT_NE(why.find("asked for row"), std::string::npos) << why;
    });
    EXPECT_EQ(seen.code, ErrorCode::kTransport);
    EXPECT_EQ(seen.part, 1) << seen.text;
    EXPECT_NE(seen.text.find(std::to_string(bad)), std::string::npos) << seen.text;
  }
}

}  // namespace
}  // namespace rudder::nccl

// The prefetcher with a GPU, over the simulated one: rows on the device bit for bit, however late the GPU is.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/lent.h"
#include "cuda/simulated.h"
#include "prefetcher/fixture.h"

namespace rudder {
namespace {

using cuda::Simulated;
using Mode = Simulated::Mode;

class PrefetcherGpuTest : public PrefetcherTest {
 protected:
  struct Asked {
    std::vector<NodeId> ids;
    cuda::Lent out;
  };
  // Its minibatches are asked of this GPU from now on.
  PrefetcherConfig with(const std::shared_ptr<Simulated>& gpu, std::size_t capacity,
                        std::size_t device_rows) {
    gpu_ = gpu;
    PrefetcherConfig settings = config(capacity);
    settings.gpu = cuda::Device::make(gpu);
    settings.device_rows = device_rows;
    settings.depth = 2;
    settings.threads = 2;
    return settings;
  }
  // A minibatch submitted, taken and gathered on the stream; its rows are there when the GPU is done.
  void ask(Prefetcher& prefetcher, Asked& asked, cuda::Stream stream) {
    const Seq seq = prefetcher.submit(asked.ids, 0);
    prefetcher.take(seq, kForever);
    asked.out.assign(gpu_, asked.ids.size() * kRowBytes);
    prefetcher.gather(seq, DeviceOut{asked.out.data(), asked.out.size(), stream});
  }
  void read(Prefetcher& prefetcher, Asked& asked, cuda::Stream stream) {
    asked.out.assign(gpu_, asked.ids.size() * kRowBytes);
    prefetcher.read(asked.ids, DeviceOut{asked.out.data(), asked.out.size(), stream});
  }
  using PrefetcherTest::right;
  bool right(const Asked& asked) const { return right(asked.ids, asked.out.bytes()); }

  std::shared_ptr<Simulated> gpu_;
};

TEST_F(PrefetcherGpuTest, RowsAreRightWhateverThePolicyAndHoweverLateTheGpu) {
  for (const std::string& policy : policy_names())
    for (const std::uint32_t seed : {1u, 2u, 3u}) {
      SCOPED_TRACE(policy + " " + std::to_string(seed));
      std::mt19937 random(seed);
      const auto gpu = std::make_shared<Simulated>(Mode::kManual, 0, seed);
      PrefetcherConfig settings = with(gpu, 100 + random() % 400, random() % 200);
      settings.policy.name = policy;
      Prefetcher prefetcher(settings);
      const cuda::Stream streams[] = {nullptr, gpu->make_stream()};
      std::deque<Asked> asked;
      for (int step = 0; step < 80; ++step) {
        asked.push_back({random_ids(random), {}});
        if (random() % 4 == 0)
          read(prefetcher, asked.back(), streams[random() % 2]);
        else
          ask(prefetcher, asked.back(), streams[random() % 2]);
        if (random() % 10 == 0)
          prefetcher.steer({.capacity_rows = random() % 100, .device_rows = random() % 120});
        if (random() % 10 == 0) prefetcher.drop_pending();
        // Mostly behind by several minibatches, now and then all done.
        const auto work = random() % 20 == 0 ? 1000 : random() % 8;
        for (auto left = work; left > 0 && gpu->step(); --left) {
        }
      }
      EXPECT_EQ(gpu->waits(), 0u) << "a step waited for the GPU";
      gpu->run();
      for (const Asked& each : asked) ASSERT_TRUE(right(each));
      prefetcher.close();
      gpu->destroy(streams[1]);
    }
}

// A trainer that never waits for its GPU, and a GPU that does nothing until it is waited for.
TEST_F(PrefetcherGpuTest, AGpuThatLagsTooFarBehindIsWaitedFor) {
  constexpr std::size_t kSlab = std::size_t{64} << 10, kStaging = 6 * kSlab;
  for (const bool announced : {true, false})
    for (const std::size_t device_rows : {0, 50}) {
      std::mt19937 random(11);
      const auto gpu = std::make_shared<Simulated>(Mode::kManual);
      PrefetcherConfig settings = with(gpu, 60, device_rows);
      settings.staging_bytes = kStaging;
      Prefetcher prefetcher(settings);
      std::deque<Asked> asked;
      std::size_t waited_first = 0;
      for (std::size_t step = 0; step < 60; ++step) {
        asked.push_back({random_ids(random), {}});
        announced ? ask(prefetcher, asked.back(), nullptr) : read(prefetcher, asked.back(), nullptr);
        if (waited_first == 0 && gpu->waits() > 0) waited_first = step;
      }
      EXPECT_GE(waited_first, kStaging / kSlab) << "what may be staged is used first";
      prefetcher.steer({});
      // What is in use, and what is fetched ahead of it.
      EXPECT_LE(prefetcher.counters().staging_bytes_peak, kStaging + 3 * kSlab);
      gpu->run();
      for (const Asked& each : asked) ASSERT_TRUE(right(each));
      prefetcher.close();
    }
}

TEST_F(PrefetcherGpuTest, WhatIsHeldForLaunchesIsCountedAndGivenBack) {
  std::mt19937 random(12);
  const auto gpu = std::make_shared<Simulated>(Mode::kManual);
  Prefetcher prefetcher(with(gpu, 600, 0));
  std::deque<Asked> asked;
  for (int step = 0; step < 5; ++step) {
    asked.push_back({random_ids(random), {}});
    ask(prefetcher, asked.back(), nullptr);
  }
  prefetcher.steer({});
  EXPECT_EQ(prefetcher.counters().upload_bytes, 5 * (std::size_t{64} << 10));
  EXPECT_EQ(prefetcher.counters().upload_device_bytes, gpu->allocated());
  prefetcher.close();
  EXPECT_EQ(gpu->allocated(), 0u);
}

// Nobody needs rows to be in the device tier.
TEST_F(PrefetcherGpuTest, AFullGpuKeepsRowsOutOfTheTierAndNothingElse) {
  constexpr std::size_t kTier = 300, kList = std::size_t{64} << 10;
  std::mt19937 random(13);
  // Room for the tier and one list, which the trainer's launches have while the GPU does nothing.
  const auto gpu = std::make_shared<Simulated>(Mode::kManual, kTier * kRowBytes + kList);
  Prefetcher prefetcher(with(gpu, 600, kTier));
  ASSERT_EQ(prefetcher.counters().device_rows, kTier);
  std::vector<NodeId> local(10);
  for (std::size_t i = 0; i < local.size(); ++i) local[i] = NodeId{static_cast<std::int64_t>(i)};
  Asked holds{local, {}};
  read(prefetcher, holds, nullptr);  // local rows alone: no row goes up yet
  std::vector<NodeId> remote(100);
  for (std::size_t i = 0; i < remote.size(); ++i) remote[i] = NodeId{static_cast<std::int64_t>(600 + i)};
  std::vector<std::byte> out(remote.size() * kRowBytes);
  const auto train = [&](int steps) {
    for (int step = 0; step < steps; ++step) {
      const Seq seq = prefetcher.submit(remote, 0);
      ASSERT_TRUE(take_and_check(prefetcher, seq, remote));
      prefetcher.release(seq);
    }
    prefetcher.steer({});
  };
  train(20);
  EXPECT_GE(prefetcher.counters().promotions_refused, 1u);
  EXPECT_LE(prefetcher.counters().promotions_refused, 3u) << "it was tried again at once";
  EXPECT_EQ(prefetcher.counters().rows_hit_on_device, 0u);
  EXPECT_EQ(gpu->waits(), 0u);
  gpu->run();
  ASSERT_TRUE(right(holds));
  // There is room again: what waited goes up.
  for (int round = 0; round < 10 && prefetcher.counters().rows_hit_on_device == 0; ++round) {
    train(100);
    gpu->run();
  }
  EXPECT_GT(prefetcher.counters().rows_hit_on_device, 0u);
  Asked asked{remote, {}};
  ask(prefetcher, asked, nullptr);
  gpu->run();
  EXPECT_TRUE(right(asked));
}

TEST_F(PrefetcherGpuTest, HotRowsComeFromTheDeviceTier) {
  std::mt19937 random(5);
  const auto gpu = std::make_shared<Simulated>(Mode::kEager);
  Prefetcher prefetcher(with(gpu, 600, 300));
  Asked asked{random_ids(random), {}};
  for (int step = 0; step < 20; ++step) {
    ask(prefetcher, asked, nullptr);
    ASSERT_TRUE(right(asked));
  }
  prefetcher.steer({});
  const Counters count = prefetcher.counters();
  EXPECT_EQ(count.device_rows, 300u);
  EXPECT_EQ(count.device_bytes, 300 * kRowBytes);
  // All but the first few times, which find the rows on their way.
  EXPECT_GT(count.rows_hit_on_device, count.rows_requested / 2);
  EXPECT_LE(count.rows_hit_on_device, count.rows_hit);
  // Rows in the tier are the buffer's, which answers the CPU.
  std::vector<std::byte> out(asked.ids.size() * kRowBytes);
  prefetcher.read(asked.ids, std::span<std::byte>(out));
  EXPECT_TRUE(right(asked.ids, out));
}

TEST_F(PrefetcherGpuTest, TheTierChangesNothingThatMoves) {
  for (const std::string& policy : policy_names()) {
    SCOPED_TRACE(policy);
    std::vector<std::uint64_t> moved;
    for (const std::size_t rows : {std::size_t{0}, std::size_t{70}}) {
      std::mt19937 random(6);
      PrefetcherConfig settings = with(std::make_shared<Simulated>(Mode::kEager), 200, rows);
      settings.policy.name = policy;
      Prefetcher prefetcher(settings);
      for (int step = 0; step < 40; ++step) {
        Asked asked{random_ids(random), {}};
        ask(prefetcher, asked, nullptr);
      }
      prefetcher.steer({});
      moved.push_back(prefetcher.counters().rows_moved);
    }
    EXPECT_EQ(moved[0], moved[1]);
  }
}

TEST_F(PrefetcherGpuTest, DeviceMemoryIsGivenBackWhenAskedFor) {
  // Room for the tier and for lists of rows, one each for whoever makes a launch at the same time; no tier
  // would be whole for long if those before it had kept their memory.
  constexpr std::size_t kTier = 500, kLists = 3 * (std::size_t{64} << 10);
  std::mt19937 random(7);
  const auto gpu = std::make_shared<Simulated>(Mode::kEager, kTier * kRowBytes + kLists);
  {
    Prefetcher prefetcher(with(gpu, 600, 0));
    Asked asked{random_ids(random), {}};
    for (std::size_t round = 0; round < 3 * kLists / (kTier * kRowBytes); ++round) {
      prefetcher.steer({.device_rows = kTier});
      ASSERT_GE(gpu->allocated(), kTier * kRowBytes);
      for (int step = 0; step < 6; ++step) ask(prefetcher, asked, nullptr);
      EXPECT_TRUE(right(asked));
      ASSERT_EQ(prefetcher.counters().device_rows, kTier) << "round " << round;
      prefetcher.steer({.device_rows = 0});
      prefetcher.release(prefetcher.submit({}, 0));  // the readers are gone
      prefetcher.steer({});
      EXPECT_EQ(prefetcher.counters().device_rows, 0u);
    }
    EXPECT_LE(gpu->allocated(), kLists);
  }
  EXPECT_EQ(gpu->allocated(), 0u);
}

TEST_F(PrefetcherGpuTest, ATierThatTheGpuHasNoRoomForIsSmaller) {
  const auto gpu = std::make_shared<Simulated>(Mode::kEager, 100);
  const Prefetcher prefetcher(with(gpu, 600, 500));
  EXPECT_EQ(prefetcher.counters().device_rows, 0u);
}

TEST_F(PrefetcherGpuTest, ARefusalToPinChangesNoRow) {
  const auto gpu = std::make_shared<Simulated>(Mode::kManual);
  gpu->inject({.refuse_pinning = "not today"});
  Prefetcher prefetcher(with(gpu, 300, 100));
  EXPECT_EQ(prefetcher.arena().pin_refusal(), "not today");
  EXPECT_EQ(prefetcher.local_refusal(), "not today");
  std::mt19937 random(8);
  std::deque<Asked> asked;
  for (int step = 0; step < 30; ++step) {
    asked.push_back({random_ids(random), {}});
    ask(prefetcher, asked.back(), nullptr);
    for (auto left = random() % 5; left > 0; --left) gpu->step();
  }
  gpu->run();
  for (const Asked& each : asked) ASSERT_TRUE(right(each));
}

TEST_F(PrefetcherGpuTest, AReadOnlyShardIsReadWhereItLies) {
  const auto gpu = std::make_shared<Simulated>(Mode::kEager);
  const Prefetcher prefetcher(with(gpu, 300, 0));
  EXPECT_EQ(prefetcher.local_refusal(), "");
  EXPECT_EQ(gpu->registered(), 2u);  // the buffer and the shard
}

TEST_F(PrefetcherGpuTest, AWriteIsSeenByWhateverIsAskedAfterIt) {
  std::mt19937 random(9);
  const auto gpu = std::make_shared<Simulated>(Mode::kManual);
  Prefetcher prefetcher(with(gpu, 400, 200));
  for (std::uint32_t round = 1; round < 60; ++round) {
    Asked asked{random_ids(random), {}};
    ask(prefetcher, asked, nullptr);
    gpu->run();
    ASSERT_TRUE(right(asked)) << "round " << round;
    std::vector<NodeId> written;
    for (std::size_t i = 0; i < asked.ids.size(); i += 7) {
      written.push_back(asked.ids[i]);
      write(value(asked.ids[i]), round);
    }
    prefetcher.invalidate(written);
  }
}

TEST_F(PrefetcherGpuTest, ASamplerATrainerAndAReaderWhileTheGpuRuns) {
  for (const std::uint32_t seed : {1u, 2u}) {
    const auto gpu = std::make_shared<Simulated>(Mode::kThread, 0, seed);
    PrefetcherConfig settings = with(gpu, 300, 150);
    Prefetcher prefetcher(settings);
    constexpr int kBatches = 150;
    std::vector<Asked> trained(kBatches), answered(kBatches);
    std::mt19937 random(seed);
    for (Asked& each : trained) each.ids = random_ids(random);
    for (Asked& each : answered) each.ids = random_ids(random, 40);
    std::thread reader([&] {
      const cuda::Stream stream = gpu->make_stream();
      for (Asked& each : answered) read(prefetcher, each, stream);
      gpu->destroy(stream);
    });
    std::thread steerer([&] {
      std::mt19937 chance(seed + 9);
      for (int i = 0; i < 30; ++i) prefetcher.steer({.device_rows = chance() % 150});
    });
    for (Asked& each : trained) ask(prefetcher, each, nullptr);
    reader.join();
    steerer.join();
    EXPECT_EQ(gpu->waits(), 0u);
    prefetcher.close();  // waits for the copies
    for (const Asked& each : trained) ASSERT_TRUE(right(each));
    for (const Asked& each : answered) ASSERT_TRUE(right(each));
  }
}

TEST_F(PrefetcherGpuTest, AFailedGpuIsATypedErrorAndAnEndIsReached) {
  const auto gpu = std::make_shared<Simulated>(Mode::kManual);
  Prefetcher prefetcher(with(gpu, 300, 0));
  Asked asked{{NodeId{1}, NodeId{900}}, {}};
  ask(prefetcher, asked, nullptr);
  gpu->inject({.fail = "the bus fell off"});
  expect_code(ErrorCode::kDevice, [&] { read(prefetcher, asked, nullptr); });
  std::vector<std::byte> out(asked.ids.size() * kRowBytes);
  prefetcher.read(asked.ids, std::span<std::byte>(out));  // the CPU needs no GPU
  EXPECT_TRUE(right(asked.ids, out));
}

TEST_F(PrefetcherGpuTest, WithoutAGpuDeviceMemoryIsATypedError) {
  Prefetcher prefetcher(config(10));
  Asked asked{{NodeId{1}}, {}};
  expect_code(ErrorCode::kConfig, [&] { read(prefetcher, asked, nullptr); });
  expect_code(ErrorCode::kConfig, [&] { prefetcher.steer({.device_rows = 5}); });
  PrefetcherConfig settings = config(10);
  settings.device_rows = 5;
  expect_code(ErrorCode::kConfig, [&] { const Prefetcher refused(settings); });
}

}  // namespace
}  // namespace rudder

// Pinning, gathers and their ends, over the simulated GPU.
#include "cuda/device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "common/error.h"
#include "cuda/lent.h"
#include "cuda/probe.h"
#include "cuda/simulated.h"
#include "memory/arena.h"
#include "memory/pin.h"
#include "memory/segment.h"

namespace rudder::cuda {
namespace {

using Mode = Simulated::Mode;

class DeviceTest : public testing::Test {
 protected:
  static constexpr std::size_t kWidth = 48, kRows = 200;

  static std::vector<std::byte> random_bytes(std::size_t bytes, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> made(bytes);
    for (auto& byte : made) byte = static_cast<std::byte>(random());
    return made;
  }
  static bool same(const std::byte* a, const std::byte* b) { return std::memcmp(a, b, kWidth) == 0; }

  // The GPU reads the row where it lies, as it is when the launch runs: `change` is seen.
  void expect_read_in_place(const std::byte* row, const std::function<void()>& change) {
    std::vector<std::byte> before(row, row + kWidth);
    Lent out(gpu_, kWidth);
    const std::vector<const std::byte*> from{row};
    const CopyPtr copy = device_->gather(from, kWidth, out.data(), nullptr, pool_);
    change();
    gpu_->run();
    EXPECT_TRUE(copy->done());
    EXPECT_TRUE(same(out.data(), row));
    EXPECT_FALSE(same(out.data(), before.data()));
  }

  std::shared_ptr<Simulated> gpu_ = std::make_shared<Simulated>(Mode::kManual);
  std::shared_ptr<Device> device_ = Device::make(gpu_);
  ThreadPool pool_{2};
};

TEST_F(DeviceTest, AnyMixOfMemoryIsOneLaunchAndWaitsForNothing) {
  const auto pinned = random_bytes(kRows * kWidth, 1), pageable = random_bytes(kRows * kWidth, 2);
  Arena arena(kRows * kWidth, {.pinner = device_});
  ASSERT_TRUE(arena.pinned()) << arena.pin_refusal();
  std::memcpy(arena.data(), pinned.data(), pinned.size());
  std::byte* on_device = device_->allocate(kRows * kWidth);
  const auto resident = random_bytes(kRows * kWidth, 3);
  std::memcpy(on_device, resident.data(), resident.size());

  std::mt19937 random(4);
  std::vector<const std::byte*> from(500);
  for (auto& row : from) {
    const std::byte* const tables[] = {arena.data(), pageable.data(), on_device};
    row = tables[random() % 3] + random() % kRows * kWidth;
  }
  Lent out(gpu_, from.size() * kWidth, std::byte{0x77});
  const std::vector<std::byte> untouched = out.bytes();
  const Stream stream = gpu_->make_stream();
  const CopyPtr copy = device_->gather(from, kWidth, out.data(), stream, pool_);
  EXPECT_EQ(out.bytes(), untouched);
  EXPECT_FALSE(copy->done());
  EXPECT_EQ(gpu_->launches(), 1u);
  EXPECT_EQ(gpu_->slot_launches(), 1u);  // 4 bytes a row went up, not 8
  EXPECT_EQ(gpu_->waits(), 0u);
  gpu_->run();
  EXPECT_TRUE(copy->done());
  for (std::size_t i = 0; i < from.size(); ++i) ASSERT_TRUE(same(out.data() + i * kWidth, from[i])) << i;
  device_->free(on_device);
  gpu_->destroy(stream);
}

TEST_F(DeviceTest, ABlockIsNotUsedAgainBeforeItsLaunchIsOver) {
  Arena arena(kRows * kWidth, {.pinner = device_});
  const auto rows = random_bytes(kRows * kWidth, 1);
  std::memcpy(arena.data(), rows.data(), rows.size());
  const auto pageable = random_bytes(kRows * kWidth, 2);
  const Stream stream = gpu_->make_stream();
  std::mt19937 random(5);
  std::vector<std::vector<const std::byte*>> asked(20, std::vector<const std::byte*>(60));
  std::vector<Lent> out;
  for (std::size_t batch = 0; batch < asked.size(); ++batch) out.emplace_back(gpu_, 60 * kWidth);
  std::vector<CopyPtr> copies;
  for (std::size_t batch = 0; batch < asked.size(); ++batch) {
    for (auto& row : asked[batch])
      row = (random() % 2 == 0 ? arena.data() : pageable.data()) + random() % kRows * kWidth;
    copies.push_back(device_->gather(asked[batch], kWidth, out[batch].data(), stream, pool_));
    for (auto steps = random() % 5; steps > 0; --steps) gpu_->step(stream);
  }
  gpu_->run();
  for (std::size_t batch = 0; batch < asked.size(); ++batch) {
    EXPECT_TRUE(copies[batch]->done());
    for (std::size_t i = 0; i < 60; ++i) ASSERT_TRUE(same(out[batch].data() + i * kWidth, asked[batch][i]));
  }
  const std::size_t blocks = gpu_->allocated();
  device_->gather(asked[0], kWidth, out[0].data(), stream, pool_);
  EXPECT_EQ(gpu_->allocated(), blocks) << "an idle block was there";
  gpu_->destroy(stream);
}

TEST_F(DeviceTest, RowsMayGoToPlacesOfTheirOwn) {
  Arena arena(kRows * kWidth, {.pinner = device_});
  const auto rows = random_bytes(kRows * kWidth, 1);
  std::memcpy(arena.data(), rows.data(), rows.size());
  std::byte* there = device_->allocate(kRows * kWidth);
  std::vector<const std::byte*> from;
  std::vector<std::byte*> to;
  for (std::size_t i = 0; i < kRows; i += 3) {
    from.push_back(arena.data() + i * kWidth);
    to.push_back(there + (kRows - 1 - i) * kWidth);
  }
  const CopyPtr copy = device_->scatter(from, kWidth, to, nullptr, pool_);
  copy->wait();
  for (std::size_t i = 0; i < from.size(); ++i) ASSERT_TRUE(same(to[i], from[i]));
  device_->free(there);
}

// Whatever the size of rows, the mix of memories, and whether rows lie where slots can name them.
TEST_F(DeviceTest, RowsBySlotAndByAddressAreTheSame) {
  std::size_t by_slot = 0, by_address = 0;
  for (std::uint32_t seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    const std::size_t width = 1 + random() % 600, n = 1 + random() % 200;
    const auto gpu = std::make_shared<Simulated>(Mode::kEager);
    const auto device = Device::make(gpu);
    const auto pinned = random_bytes((kRows + 1) * width, seed),
               pageable = random_bytes(kRows * width, seed + 1);
    Arena arena((kRows + 1) * width, {.pinner = device});
    std::memcpy(arena.data(), pinned.data(), pinned.size());
    std::byte *on_device = device->allocate(kRows * width), *there = device->allocate(n * width);
    std::memcpy(on_device, pageable.data(), pageable.size());
    const bool off_the_grid = width > 1 && seed % 3 == 0;
    std::vector<const std::byte*> from(n);
    std::vector<std::byte*> to(n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::byte* const tables[] = {arena.data(), pageable.data(), on_device};
      from[i] = tables[random() % 3] + random() % kRows * width;
      to[i] = there + (n - 1 - i) * width;
    }
    if (off_the_grid) from[random() % n] = arena.data() + 1 + random() % (width - 1);
    Lent out(gpu, n * width);
    device->gather(from, width, out.data(), nullptr, pool_);
    EXPECT_TRUE(!off_the_grid || gpu->slot_launches() == 0);
    (gpu->slot_launches() == 1 ? by_slot : by_address) += 1;
    device->scatter(from, width, to, nullptr, pool_);
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(std::memcmp(out.data() + i * width, from[i], width), 0) << "seed " << seed << ", row " << i;
      ASSERT_EQ(std::memcmp(to[i], from[i], width), 0) << "seed " << seed << ", row " << i;
    }
    device->free(on_device);
    device->free(there);
  }
  EXPECT_GT(by_slot, 80u);
  EXPECT_GT(by_address, 40u);
}

TEST_F(DeviceTest, MemoryOfEveryKindIsPinnedAndReadInPlace) {
  for (const bool huge : {false, true}) {
    const Arena arena(std::size_t{4} << 20, {.huge = huge, .pinner = device_});
    ASSERT_TRUE(arena.pinned()) << arena.pin_refusal();
    for (std::byte* row : {arena.data(), arena.data() + arena.bytes() - kWidth})
      expect_read_in_place(row, [&] { std::memset(row, 9, kWidth); });
  }
  EXPECT_EQ(gpu_->registered(), 0u);

  // Shared memory, as DistDGL keeps its features: mapped read-only.
  const std::string name = "/rudder-device-test-" + std::to_string(getpid());
  const auto rows = random_bytes(kRows * kWidth, 11);
  const int file = shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(write(file, rows.data(), rows.size()), static_cast<ssize_t>(rows.size()));
  {
    const Segment segment(name, 0, rows.size());
    const PinnedRange range(device_, segment.data(), rows.size());
    EXPECT_TRUE(range.refusal().empty()) << range.refusal();
    const auto other = random_bytes(kWidth, 12);
    expect_read_in_place(segment.data() + 7 * kWidth, [&] {
      EXPECT_EQ(pwrite(file, other.data(), kWidth, 7 * kWidth), static_cast<ssize_t>(kWidth));
    });
  }
  close(file);
  shm_unlink(name.c_str());
  EXPECT_EQ(gpu_->registered(), 0u);
}

TEST_F(DeviceTest, ARefusalToPinIsACapability) {
  gpu_->inject({.refuse_pinning = "RLIMIT_MEMLOCK is 8 MiB"});
  const Arena arena(kRows * kWidth, {.pinner = device_});
  EXPECT_FALSE(arena.pinned());
  EXPECT_EQ(arena.pin_refusal(), "RLIMIT_MEMLOCK is 8 MiB");
  std::vector<const std::byte*> from{arena.data() + kWidth};
  Lent out(gpu_, kWidth);
  std::memset(arena.data() + kWidth, 9, kWidth);
  device_->gather(from, kWidth, out.data(), nullptr, pool_)->wait();
  EXPECT_TRUE(same(out.data(), from[0]));
}

TEST_F(DeviceTest, WhatWasUnpinnedIsNotReadInPlace) {
  const auto table = random_bytes(kRows * kWidth, 6);
  std::string refusal;
  auto* memory = const_cast<std::byte*>(table.data());
  ASSERT_TRUE(device_->pin(memory, table.size(), true, refusal));
  EXPECT_EQ(gpu_->registered(), 1u);
  device_->unpin(memory);
  EXPECT_EQ(gpu_->registered(), 0u);
  std::vector<const std::byte*> from{table.data() + 5 * kWidth};
  Lent out(gpu_, kWidth);
  device_->gather(from, kWidth, out.data(), nullptr, pool_)->wait();
  EXPECT_TRUE(same(out.data(), from[0]));
}

TEST_F(DeviceTest, AFailureIsATypedErrorAndEndsCopies) {
  Arena arena(kRows * kWidth, {.pinner = device_});
  std::vector<const std::byte*> from{arena.data()};
  Lent out(gpu_, kWidth);
  const CopyPtr copy = device_->gather(from, kWidth, out.data(), nullptr, pool_);
  gpu_->inject({.fail = "the bus fell off"});
  EXPECT_TRUE(copy->done());
  copy->wait();
  try {
    device_->gather(from, kWidth, out.data(), nullptr, pool_);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
    EXPECT_NE(std::string(error.what()).find("the bus fell off"), std::string::npos);
  }
}

TEST_F(DeviceTest, NoMemoryLeftIsSaid) {
  const auto gpu = std::make_shared<Simulated>(Mode::kEager, 1000);
  const auto device = Device::make(gpu);
  EXPECT_EQ(device->allocate(2000), nullptr);
  std::vector<std::byte> row(kWidth);
  Lent out(gpu, kWidth);
  std::vector<const std::byte*> from{row.data()};
  try {
    device->gather(from, kWidth, out.data(), nullptr, pool_);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
  }
}

TEST_F(DeviceTest, AProbeGathersTheSameRowsFromEveryTier) {
  const auto table = random_bytes(kRows * kWidth, 8);
  GatherProbe probe(device_, table.data(), kRows, kWidth, 2);
  std::mt19937 random(9);
  std::vector<std::int64_t> ids(100);
  for (auto& id : ids) id = random() % kRows;
  using Tier = GatherProbe::Tier;
  for (const Tier tier : {Tier::kDevice, Tier::kPinned, Tier::kPageable, Tier::kMixed})
    for (const bool by_number : {false, true}) {
      if (by_number && tier != Tier::kDevice && tier != Tier::kPinned) continue;
      Lent out(gpu_, ids.size() * kWidth);
      if (by_number) {
        probe.list(ids, tier == Tier::kPinned);
        probe.gather_listed(tier, out.data(), nullptr);
      } else {
        probe.gather(tier, ids, out.data(), nullptr);
      }
      gpu_->run();
      for (std::size_t i = 0; i < ids.size(); ++i)
        ASSERT_TRUE(same(out.data() + i * kWidth, table.data() + static_cast<std::size_t>(ids[i]) * kWidth));
    }
}

// A block that work on the stream still reads is nobody else's, also where the launch failed on the way.
TEST_F(DeviceTest, ALaunchThatFailsOnTheWayKeepsItsBlockUntilItIsRead) {
  for (const char* call : {"copy", "copy_rows", "record"}) {
    const auto gpu = std::make_shared<Simulated>(Mode::kManual);
    const auto device = Device::make(gpu);
    const auto pageable = random_bytes(kRows * kWidth, 7);
    std::vector<const std::byte*> from{pageable.data() + kWidth}, later{pageable.data() + 5 * kWidth};
    Lent out(gpu, kWidth), next(gpu, kWidth);
    device->gather(from, kWidth, out.data(), nullptr, pool_);
    gpu->run();  // a block is idle
    const std::size_t blocks = gpu->allocated();
    gpu->inject({.call = call});
    EXPECT_THROW(device->gather(from, kWidth, out.data(), nullptr, pool_), Error) << call;
    gpu->inject({});
    device->gather(later, kWidth, next.data(), nullptr, pool_);
    EXPECT_GT(gpu->allocated(), blocks) << call;
    gpu->run();
    EXPECT_TRUE(same(next.data(), later[0]));
  }
}

// What a GPU does not tell is not taken for its end.
TEST_F(DeviceTest, WhereTheGpuDoesNotTellNothingIsOver) {
  const auto pageable = random_bytes(kWidth, 7);
  std::vector<const std::byte*> from{pageable.data()};
  Lent out(gpu_, kWidth);
  const CopyPtr copy = device_->gather(from, kWidth, out.data(), nullptr, pool_);
  const std::size_t blocks = gpu_->allocated();
  gpu_->inject({.mute = "a graph is captured"});
  EXPECT_FALSE(copy->done());
  device_->gather(from, kWidth, out.data(), nullptr, pool_);
  EXPECT_GT(gpu_->allocated(), blocks);
  gpu_->run();
  EXPECT_FALSE(copy->done());
  gpu_->inject({});
  EXPECT_TRUE(copy->done());
}

class UploadBlocksTest : public DeviceTest {
 protected:
  static constexpr std::size_t kBlock = std::size_t{64} << 10;

  // A launch that reads a block of so many bytes, and has it given back.
  CopyPtr read(std::size_t bytes) {
    UploadBlocks::Block block = blocks_.acquire(bytes, true);
    auto copy = std::make_shared<Copy>(gpu_, gpu_->make_event());
    gpu_->copy(block.device, block.pinned, bytes, nullptr);
    gpu_->record(copy->event(), nullptr);
    blocks_.give_back(block, copy);
    return copy;
  }

  UploadBlocks blocks_{gpu_, true, 4 * kBlock};
};

TEST_F(UploadBlocksTest, AGpuThatLagsTooFarBehindIsWaitedFor) {
  std::vector<CopyPtr> copies;
  for (int number = 0; number < 4; ++number) copies.push_back(read(100));
  EXPECT_EQ(gpu_->waits(), 0u);
  EXPECT_EQ(blocks_.bytes(), 4 * kBlock);
  EXPECT_THROW(blocks_.acquire(100, false), Error);
  for (int number = 0; number < 20; ++number) copies.push_back(read(100));
  EXPECT_EQ(gpu_->waits(), 20u);  // for the oldest alone, each time
  EXPECT_EQ(blocks_.bytes(), 4 * kBlock);
  EXPECT_FALSE(copies.back()->done());
  EXPECT_TRUE(copies[19]->done());
  EXPECT_FALSE(copies[20]->done());
}

TEST_F(UploadBlocksTest, BlocksOfOtherSizesMakeRoomAndOneAlwaysPasses) {
  for (int number = 0; number < 4; ++number) read(100);
  read(2 * kBlock);  // none fits, and all are being read
  EXPECT_LE(blocks_.bytes(), 4 * kBlock);
  read(32 * kBlock);  // more than there may be
  EXPECT_EQ(blocks_.bytes(), 32 * kBlock);
  read(100);
  EXPECT_EQ(blocks_.bytes(), kBlock);
  gpu_->run();
}

TEST_F(UploadBlocksTest, WhatNobodyReadsIsGivenBack) {
  read(100);
  gpu_->run();
  read(kBlock * 2);
  EXPECT_EQ(gpu_->allocated(), 3 * kBlock);
  blocks_.trim();
  EXPECT_EQ(blocks_.bytes(), 2 * kBlock);  // it is being read
  gpu_->run();
  blocks_.trim();
  EXPECT_EQ(blocks_.bytes(), 0u);
  EXPECT_EQ(gpu_->allocated(), 0u);
}

TEST(UploadBlocks, IdleOnesMakeRoomWhereTheGpuIsFull) {
  constexpr std::size_t kBlock = std::size_t{64} << 10;
  const auto gpu = std::make_shared<Simulated>(Mode::kEager, 16 * kBlock);
  UploadBlocks blocks(gpu, true, std::size_t{1} << 30);
  blocks.give_back(blocks.acquire(kBlock, true), nullptr);
  const UploadBlocks::Block large = blocks.acquire(16 * kBlock, true);
  EXPECT_EQ(blocks.bytes(), 16 * kBlock);
  blocks.give_back(large, nullptr);
}

TEST_F(DeviceTest, AProbeThatFailsOnTheWayLeavesNothingBehind) {
  const auto table = random_bytes(kRows * kWidth, 8);
  for (const char* call : {"copy", "record"}) {
    gpu_->inject({.call = call});
    EXPECT_THROW(GatherProbe(device_, table.data(), kRows, kWidth, 1), Error);
    gpu_->inject({});
    EXPECT_EQ(gpu_->allocated(), 0u);
    EXPECT_EQ(gpu_->registered(), 0u);
    GatherProbe probe(device_, table.data(), kRows, kWidth, 1);
    const std::vector<std::int64_t> ids{1, 2};
    const std::size_t held = gpu_->allocated();
    gpu_->inject({.call = call});
    EXPECT_THROW(probe.list(ids, true), Error);
    gpu_->inject({});
    EXPECT_EQ(gpu_->allocated(), held);
    probe.list(ids, true);
  }
  EXPECT_EQ(gpu_->allocated(), 0u);
}

// The simulated GPU must find what a real one would: else the tests above show nothing.
TEST_F(DeviceTest, TheSimulatedGpuRefusesMemoryThatItCannotReach) {
  const auto pageable = random_bytes(kWidth, 7);
  auto* list = static_cast<std::byte*>(gpu_->host_allocate(sizeof(std::byte*)));
  auto* table = static_cast<std::byte*>(gpu_->allocate(4 * kWidth));
  Lent out(gpu_, kWidth);
  std::vector<std::byte> unknown(kWidth);
  const auto works = [&](const RowCopies& job) {
    gpu_->copy_rows(job, nullptr);
    gpu_->run();
    const Event event = gpu_->make_event();
    bool fine = true;
    try {
      gpu_->done(event);
    } catch (const DeviceLost&) {
      fine = false;
    }
    gpu_->destroy_event(event);
    gpu_->inject({});
    return fine;
  };
  const auto by_address = [&](const std::byte* row, std::byte* to) {
    std::memcpy(list, static_cast<const void*>(&row), sizeof(row));
    return works({.rows = 1, .row_bytes = kWidth, .index = list, .out = to});
  };
  EXPECT_TRUE(by_address(table, out.data()));
  EXPECT_FALSE(by_address(pageable.data(), out.data()));
  EXPECT_FALSE(by_address(table, unknown.data()));
  EXPECT_FALSE(by_address(table, out.data() + 1));
  const auto by_number = [&](std::int32_t row, std::byte* to) {
    std::memcpy(list, &row, sizeof(row));
    return works(rows_by_number(table, kWidth, From::kInt32, list, 1, to));
  };
  EXPECT_TRUE(by_number(3, out.data()));
  EXPECT_FALSE(by_number(4, out.data()));
  EXPECT_FALSE(by_number(3, unknown.data()));
  gpu_->free(table);
  gpu_->host_free(list);
}

}  // namespace
}  // namespace rudder::cuda

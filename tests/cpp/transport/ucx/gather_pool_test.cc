#include "transport/ucx/gather_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <set>

#include "common/error.h"

namespace rudder::ucx {
namespace {

constexpr std::size_t kRows = 64, kRowBytes = 16, kChunk = 256;

class GatherPoolTest : public testing::Test {
 protected:
  std::vector<std::byte> table_ = [] {
    std::vector<std::byte> bytes(kRows * kRowBytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
    return bytes;
  }();
  std::shared_ptr<const Region> region_ =
      std::make_shared<Region>(Region{nullptr, table_.data(), kRows, kRowBytes});
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t rings_ = 0;
  GatherPool pool_{2, 4 * kChunk, kChunk, [this] {
                     const std::lock_guard lock(mutex_);
                     ++rings_;
                     changed_.notify_all();
                   }};

  GatherJob job(std::uint64_t session, std::uint64_t request, std::vector<std::int64_t> rows) {
    return {.session = session,
            .request = request,
            .region = region_,
            .gather = {.table = 0, .rows = std::move(rows), .row_bytes = kRowBytes},
            .error = {}};
  }
  // Waits until `count` more jobs are done.
  std::vector<GatherJob> done(std::size_t count) {
    std::vector<GatherJob> all;
    std::unique_lock lock(mutex_);
    while (all.size() < count) {
      for (GatherJob& each : pool_.take_done()) all.push_back(std::move(each));
      if (all.size() >= count) break;
      changed_.wait(lock, [&] { return rings_ > 0; });
      rings_ = 0;
    }
    return all;
  }
};

TEST_F(GatherPoolTest, RowsLieInTheChunkInOrder) {
  pool_.open(1);
  pool_.add(job(1, 5, {3, 0, 63, 3}));
  const auto got = done(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].request, 5u);
  EXPECT_TRUE(got[0].error.empty());
  for (std::size_t i = 0; i < 4; ++i) {
    const auto row = static_cast<std::size_t>(got[0].gather.rows[i]);
    EXPECT_EQ(std::memcmp(got[0].gather.out + i * kRowBytes, table_.data() + row * kRowBytes, kRowBytes), 0);
  }
  EXPECT_EQ(pool_.chunks_in_use(), 1u);
  pool_.give_back(got[0]);
  EXPECT_EQ(pool_.chunks_in_use(), 0u);
}

TEST_F(GatherPoolTest, ARowOutsideTheTableIsAnError) {
  pool_.open(1);
  for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{kRows}}) {
    pool_.add(job(1, 1, {0, bad}));
    const auto got = done(1);
    EXPECT_NE(got[0].error.find("outside"), std::string::npos);
    pool_.give_back(got[0]);
  }
}

TEST_F(GatherPoolTest, ASlowClientKeepsItsShareAndNoMore) {
  pool_.open(1);
  pool_.open(2);
  for (std::uint64_t i = 0; i < 10; ++i) pool_.add(job(1, i, {1}));  // takes none of them
  auto held = done(2);
  for (std::uint64_t i = 0; i < 20; ++i) {
    pool_.add(job(2, 100 + i, {2}));
    const auto got = done(1);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].session, 2u);  // served, though the first one's queue is older and longer
    pool_.give_back(got[0]);
  }
  EXPECT_EQ(pool_.chunks_in_use(), 2u);
  EXPECT_EQ(pool_.queued(1), 8u);
  // Alone it may have half of them, for whoever comes next.
  pool_.drop(2);
  EXPECT_EQ(pool_.chunks_in_use(), 2u);
  for (std::size_t left = 10; left > 0; left -= 2) {
    for (const GatherJob& each : held) pool_.give_back(each);
    held = left > 2 ? done(2) : std::vector<GatherJob>{};
    EXPECT_EQ(pool_.chunks_in_use(), held.size());
  }
  EXPECT_EQ(pool_.queued_rows(), 0u);
}

TEST_F(GatherPoolTest, WhatIsDroppedIsForgottenAndItsChunksComeBack) {
  pool_.open(1);
  for (std::uint64_t i = 0; i < 10; ++i) pool_.add(job(1, i, {1, 2, 3}));
  const auto got = done(2);
  EXPECT_EQ(pool_.queued_rows(), 24u);
  pool_.drop(1);
  EXPECT_EQ(pool_.queued_rows(), 0u);
  EXPECT_EQ(pool_.queued(1), 0u);
  for (const GatherJob& each : got) pool_.give_back(each);
  EXPECT_EQ(pool_.chunks_in_use(), 0u);
  pool_.open(3);
  pool_.add(job(3, 1, {9}));
  pool_.give_back(done(1)[0]);
}

TEST(GatherPool, RefusesSettingsThatCannotWork) {
  EXPECT_THROW(GatherPool(0, 1024, 256, nullptr), Error);
  EXPECT_THROW(GatherPool(1, 256, 256, nullptr), Error);
  EXPECT_THROW(GatherPool(1, 1024, 0, nullptr), Error);
}

}  // namespace
}  // namespace rudder::ucx

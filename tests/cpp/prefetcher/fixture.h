// A table of three partitions behind loopback, for tests of the prefetcher.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "common/error.h"
#include "prefetcher/prefetcher.h"
#include "transport/loopback.h"

namespace rudder {

inline constexpr std::chrono::nanoseconds kForever = std::chrono::nanoseconds::max();

class PrefetcherTest : public testing::Test {
 protected:
  static constexpr std::int64_t kRows = 3000, kLocal = 500;
  static constexpr std::size_t kRowBytes = 40;

  PrefetcherTest() : table_(kRows * kRowBytes) {
    for (std::int64_t id = 0; id < kRows; ++id) write(id, 0);
    expose();
  }
  // A row is a function of its id and version, so that a stale one is recognised.
  void write(std::int64_t id, std::uint32_t version) {
    std::mt19937 random(static_cast<std::uint32_t>(id) * 2654435761u + version);
    for (std::size_t i = 0; i < kRowBytes; ++i)
      table_[static_cast<std::size_t>(id) * kRowBytes + i] = static_cast<std::byte>(random());
  }
  void expose() {
    loopback_->expose(PartId{1}, 0, table_.data() + kLocal * kRowBytes, 1500, kRowBytes);
    loopback_->expose(PartId{2}, 0, table_.data() + 2000 * kRowBytes, 1000, kRowBytes);
  }
  PrefetcherConfig config(std::size_t capacity) const {
    PrefetcherConfig config;
    config.row_bytes = kRowBytes;
    config.part_starts = {0, kLocal, 2000, kRows};
    config.local_rows = table_.data();
    config.routes = {{}, {loopback_}, {loopback_}};
    config.policy = {.name = "lookahead", .capacity = capacity, .prior = nullptr};
    config.window_rows = 4 * capacity;
    return config;
  }
  bool right(std::span<const NodeId> ids, const std::vector<std::byte>& out) const {
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (std::memcmp(out.data() + i * kRowBytes,
                      table_.data() + static_cast<std::size_t>(value(ids[i])) * kRowBytes, kRowBytes) != 0)
        return false;
    return true;
  }
  static std::vector<NodeId> random_ids(std::mt19937& random, std::size_t most = 300) {
    std::vector<NodeId> ids(random() % most);
    // Skewed, with repetitions.
    for (auto& id : ids) id = NodeId{static_cast<std::int64_t>((random() % 60) * (random() % 50))};
    return ids;
  }
  bool take_and_check(Prefetcher& prefetcher, Seq seq, std::span<const NodeId> ids) {
    prefetcher.take(seq, kForever);
    std::vector<std::byte> out(ids.size() * kRowBytes);
    prefetcher.gather(seq, out);
    return right(ids, out);
  }
  static void expect_code(ErrorCode code, const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
    }
  }

  std::vector<std::byte> table_;
  std::shared_ptr<Loopback> loopback_ = std::make_shared<Loopback>();
};

}  // namespace rudder

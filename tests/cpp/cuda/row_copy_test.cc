// The kernels' body, run by the CPU as a GPU would run it, against memcpy.
#include "cuda/row_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

namespace rudder::cuda {
namespace {

// Every lane of every group, in an order of chance: no order may matter.
void run(const RowCopies& job, std::mt19937& random) {
  const unsigned lanes = lanes_of(job.row_bytes, job.vector);
  const std::size_t groups = 1 + random() % 40;
  std::vector<std::pair<std::size_t, unsigned>> threads;
  for (std::size_t group = 0; group < groups; ++group)
    for (unsigned lane = 0; lane < lanes; ++lane) threads.emplace_back(group, lane);
  std::shuffle(threads.begin(), threads.end(), random);
  dispatch(job, [&]<typename Vector, From kFrom>() {
    for (const auto& [group, lane] : threads) copy_rows<Vector, kFrom>(job, group, groups, lane, lanes);
  });
}

class Rows {
 public:
  Rows(std::size_t rows, std::size_t row_bytes, std::size_t shift, std::mt19937& random)
      : row_bytes_(row_bytes), memory_(rows * row_bytes + 64 + shift) {
    for (auto& byte : memory_) byte = static_cast<std::byte>(random());
    const auto at = reinterpret_cast<std::uintptr_t>(memory_.data());
    begin_ = memory_.data() + ((at + 15) / 16 * 16 - at) + shift;
  }
  std::byte* row(std::size_t number) const { return begin_ + number * row_bytes_; }

 private:
  std::size_t row_bytes_;
  std::vector<std::byte> memory_;
  std::byte* begin_;
};

std::size_t any_row_bytes(std::mt19937& random) {
  static constexpr std::array kUsual = {1u,   2u,   4u,   8u,    12u,   16u,  100u,
                                        400u, 512u, 602u, 1024u, 2408u, 4096u};
  return random() % 2 == 0 ? kUsual[random() % kUsual.size()] : 1 + random() % 3000;
}

TEST(RowCopy, RowsOfAnySizeAndAlignmentFromManyPlaces) {
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const std::size_t width = any_row_bytes(random), n = random() % 70;
    const std::size_t step = std::size_t{1} << (random() % 5);  // alignment of the places: 1 to 16
    Rows near(50, width, random() % 16 / step * step, random),
        far(50, width, random() % 16 / step * step, random);
    Rows out(n + 1, width, random() % 16 / step * step, random);
    std::vector<const std::byte*> from(n);
    std::vector<std::byte*> to(n);
    std::uint64_t bits = width | reinterpret_cast<std::uint64_t>(out.row(0));
    for (std::size_t i = 0; i < n; ++i) {
      from[i] = (random() % 2 == 0 ? near : far).row(random() % 50);
      bits |= reinterpret_cast<std::uint64_t>(from[i]);
    }
    const std::vector<std::byte> beyond(out.row(n), out.row(n) + width);
    RowCopies job{.rows = n, .row_bytes = width, .index = from.data(), .out = out.row(0)};
    job.vector = widest_vector(bits);
    ASSERT_EQ(width % job.vector, 0u);
    run(job, random);
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(std::memcmp(out.row(i), from[i], width), 0) << "seed " << seed;
    ASSERT_EQ(std::memcmp(out.row(n), beyond.data(), width), 0) << "written beyond the batch, seed " << seed;

    // The same rows, each to a place of its own.
    std::vector<std::size_t> places(n);
    for (std::size_t i = 0; i < n; ++i) places[i] = i;
    std::shuffle(places.begin(), places.end(), random);
    Rows scattered(n + 1, width, 0, random);
    for (std::size_t i = 0; i < n; ++i) {
      to[i] = scattered.row(places[i]);
      bits |= reinterpret_cast<std::uint64_t>(to[i]);
    }
    job.to = to.data();
    job.out = nullptr;
    job.vector = widest_vector(bits);
    run(job, random);
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(std::memcmp(scattered.row(places[i]), out.row(i), width), 0) << "seed " << seed;
  }
}

// Rows of three memories by slot, from and to, however the windows lie.
TEST(RowCopy, RowsBySlot) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const std::size_t width = any_row_bytes(random), n = random() % 70;
    const std::size_t shift = random() % 16;
    Rows memories[] = {{90, width, shift, random}, {90, width, shift, random}, {90, width, shift, random}};
    Rows out(n, width, 0, random), there(90, width, shift, random);
    // Each memory's rows in two windows.
    std::vector<std::byte*> windows;
    for (Rows& memory : memories)
      for (const std::size_t row : {0, 45}) windows.push_back(memory.row(row));
    windows.push_back(there.row(0));
    std::vector<std::uint32_t> from(n), to(n);
    std::vector<const std::byte*> expected(n);
    std::vector<std::uint32_t> places(90);
    for (std::uint32_t i = 0; i < 90; ++i) places[i] = i;
    std::shuffle(places.begin(), places.end(), random);
    for (std::size_t i = 0; i < n; ++i) {
      const auto window = static_cast<std::uint32_t>(random() % 6),
                 row = static_cast<std::uint32_t>(random() % 45);
      from[i] = window << kRowBits | row;
      expected[i] = windows[window] + row * width;
      to[i] = 6u << kRowBits | places[i];
    }
    std::uint64_t bits = width | reinterpret_cast<std::uint64_t>(out.row(0));
    for (const std::byte* window : windows) bits |= reinterpret_cast<std::uint64_t>(window);
    RowCopies job{.rows = n,
                  .row_bytes = width,
                  .from = From::kSlots,
                  .index = from.data(),
                  .windows = windows.data(),
                  .out = out.row(0),
                  .vector = widest_vector(bits)};
    run(job, random);
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(std::memcmp(out.row(i), expected[i], width), 0) << "seed " << seed;
    job.to = to.data();
    job.out = nullptr;
    run(job, random);
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(std::memcmp(there.row(places[i]), expected[i], width), 0) << "seed " << seed;
  }
}

template <typename Id>
void by_number(From kind) {
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    const std::size_t width = any_row_bytes(random), n = random() % 70;
    Rows table(90, width, random() % 16, random), out(n, width, random() % 16, random);
    std::vector<Id> ids(n);
    for (Id& id : ids) id = static_cast<Id>(random() % 90);
    run(rows_by_number(table.row(0), width, kind, ids.data(), n, out.row(0)), random);
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(std::memcmp(out.row(i), table.row(static_cast<std::size_t>(ids[i])), width), 0);
  }
}

TEST(RowCopy, RowsByInt32) { by_number<std::int32_t>(From::kInt32); }
TEST(RowCopy, RowsByInt64) { by_number<std::int64_t>(From::kInt64); }

TEST(RowCopy, TheWidestVectorThatFits) {
  EXPECT_EQ(widest_vector(512 | 0x1000), 16u);
  EXPECT_EQ(widest_vector(512 | 0x1008), 8u);
  EXPECT_EQ(widest_vector(100), 4u);
  EXPECT_EQ(widest_vector(602), 1u);
  EXPECT_EQ(lanes_of(16, 16), 1u);
  EXPECT_EQ(lanes_of(100, 4), 32u);
  EXPECT_EQ(lanes_of(96, 16), 8u);
  EXPECT_EQ(lanes_of(1 << 20, 16), kWarp);
}

}  // namespace
}  // namespace rudder::cuda

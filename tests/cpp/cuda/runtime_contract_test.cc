// The contract of GPU runtimes, and the simulated GPU's instance of it, whenever its work is done.
#include "cuda/runtime_contract.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "cuda/simulated.h"

namespace rudder::cuda {

TEST_P(RuntimeContract, WorkOfAStreamIsDoneInItsOrder) {
  const Stream stream = gpu_->make_stream();
  std::byte *from = pinned(kRows * kWidth), *there = on_device(kRows * kWidth), *to = pinned(kRows * kWidth);
  fill(from);
  gpu_->copy(there, from, kRows * kWidth, stream);
  gpu_->copy(to, there, kRows * kWidth, stream);
  drain(stream);
  EXPECT_EQ(std::memcmp(to, from, kRows * kWidth), 0);
  gpu_->destroy(stream);
  gpu_->host_free(from);
  gpu_->host_free(to);
  gpu_->free(there);
}

TEST_P(RuntimeContract, RowsAreGatheredByAddressAndByNumber) {
  const Stream stream = gpu_->make_stream();
  std::byte *table = pinned(kRows * kWidth), *there = on_device(kRows * kWidth),
            *out = pinned(kRows * kWidth);
  fill(table);
  gpu_->copy(there, table, kRows * kWidth, stream);
  std::vector<std::int64_t> rows(kRows);
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), std::mt19937(3));
  std::byte* list = pinned(kRows * sizeof(std::int64_t));
  for (const From from : {From::kAddresses, From::kInt32, From::kInt64}) {
    for (std::size_t i = 0; i < kRows; ++i) {
      const std::byte* at = (i % 2 == 0 ? table : there) + static_cast<std::size_t>(rows[i]) * kWidth;
      const auto number = static_cast<std::int32_t>(rows[i]);
      if (from == From::kAddresses) std::memcpy(list + i * sizeof(at), static_cast<void*>(&at), sizeof(at));
      if (from == From::kInt32) std::memcpy(list + i * sizeof(number), &number, sizeof(number));
      if (from == From::kInt64) std::memcpy(list + i * sizeof(rows[i]), &rows[i], sizeof(rows[i]));
    }
    std::memset(out, 0x5a, kRows * kWidth);
    gpu_->copy_rows(rows_by_number(from == From::kInt32 ? table : there, kWidth, from, list, kRows, out),
                    stream);
    drain(stream);
    expect_rows(out, rows);
  }
  gpu_->destroy(stream);
  for (std::byte* memory : {table, out, list}) gpu_->host_free(memory);
  gpu_->free(there);
}

TEST_P(RuntimeContract, RegisteredMemoryIsReadWhereItLies) {
  std::vector<std::byte> table(kRows * kWidth);
  fill(table.data());
  std::string refusal;
  ASSERT_TRUE(gpu_->host_register(table.data(), table.size(), false, refusal)) << refusal;
  std::byte *list = pinned(3 * sizeof(std::int32_t)), *out = pinned(3 * kWidth);
  const std::vector<std::int32_t> rows{5, 59, 5};
  std::memcpy(list, rows.data(), 3 * sizeof(std::int32_t));
  gpu_->copy_rows(rows_by_number(table.data(), kWidth, From::kInt32, list, 3, out), nullptr);
  drain(nullptr);
  expect_rows(out, rows);
  gpu_->host_unregister(table.data());
  // What was given back can be had again.
  ASSERT_TRUE(gpu_->host_register(table.data(), table.size(), true, refusal)) << refusal;
  gpu_->host_unregister(table.data());
  gpu_->host_free(list);
  gpu_->host_free(out);
}

TEST_P(RuntimeContract, MoreMemoryThanThereIsIsNull) {
  EXPECT_EQ(gpu_->allocate(std::size_t{1} << 50), nullptr);
  void* some = gpu_->allocate(4096);
  ASSERT_NE(some, nullptr);
  gpu_->free(some);
}

TEST_P(RuntimeContract, AnEventOfNothingIsOver) {
  const Event event = gpu_->make_event();
  EXPECT_TRUE(gpu_->done(event));
  gpu_->wait(event);
  gpu_->destroy_event(event);
  EXPECT_FALSE(gpu_->name().empty());
}

namespace {

constexpr std::size_t kMemory = std::size_t{1} << 20;

Maker of(const char* name, Simulated::Mode mode) {
  return {name, [mode] { return std::make_shared<Simulated>(mode, kMemory); }};
}

INSTANTIATE_TEST_SUITE_P(Simulated, RuntimeContract,
                         testing::Values(of("eager", Simulated::Mode::kEager),
                                         of("manual", Simulated::Mode::kManual),
                                         of("thread", Simulated::Mode::kThread)),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace rudder::cuda

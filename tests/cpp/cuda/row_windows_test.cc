#include "cuda/row_windows.h"

#include <gtest/gtest.h>

#include <random>

namespace rudder::cuda {
namespace {

TEST(RowWindows, RowsAreFoundWhereTheyBeginAndNowhereElse) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const std::size_t row_bytes = 1 + random() % (round % 2 == 0 ? 5000 : 40);
    const RowWindows windows(row_bytes);
    const std::size_t rows = 1 + random() % (std::size_t{1} << 31);
    const std::size_t offset =
        round % 3 == 0 ? random() % (rows * row_bytes + 9000) : random() % (rows + 2) * row_bytes;
    std::size_t row = 0;
    const bool is_row = offset % row_bytes == 0 && offset / row_bytes < rows;
    ASSERT_EQ(windows.row_at(offset, rows, row), is_row) << row_bytes << " " << offset << " of " << rows;
    if (is_row) ASSERT_EQ(row, offset / row_bytes);
  }
}

TEST(RowWindows, ASlotNamesARowOfAnyWindow) {
  constexpr std::size_t kRow = 12;
  RowWindows windows(kRow);
  // No memory is touched: addresses alone.
  const auto* near = reinterpret_cast<const std::byte*>(0x10000);
  const auto* far = reinterpret_cast<const std::byte*>(0x7000000000);
  EXPECT_EQ(windows.add(near, 3 * RowWindows::kWindowRows + 1), 0u);
  EXPECT_EQ(windows.add(far, 5), 4u);
  EXPECT_EQ(windows.add(far, 0), 5u);
  ASSERT_EQ(windows.starts().size(), 5u);
  RowCopies job{.row_bytes = kRow, .windows = const_cast<std::byte* const*>(windows.starts().data())};
  const auto at = [&](std::size_t first, std::size_t row) -> const std::byte* {
    const RowWindows::Slot slot = RowWindows::slot(first, row);
    return slot_at(job, &slot, 0);
  };
  for (const std::size_t row :
       {std::size_t{0}, RowWindows::kWindowRows - 1, RowWindows::kWindowRows, 3 * RowWindows::kWindowRows})
    EXPECT_EQ(at(0, row), near + row * kRow);
  EXPECT_EQ(at(4, 4), far + 4 * kRow);
}

}  // namespace
}  // namespace rudder::cuda

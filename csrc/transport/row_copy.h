// Gathering rows of a table that is mapped in this process, shared by the transports that can.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>

#include "transport/transport.h"

namespace rudder {

// What is requested ahead of the row being copied: about 8 KiB, so that a DRAM access is over when its row's
// turn comes, and of each row the first KiB, from where the processor's own prefetching goes on. Into the
// second-level cache: the first tracks too few missing lines at once.
inline constexpr std::size_t kPrefetchBytes = 8192, kPrefetchOfRow = 1024, kCacheLine = 64;

// Copies rows of a table, one after another, to `out`. REQUIRES row numbers inside the table.
inline void copy_rows(const std::byte* table, std::span<const std::int64_t> rows, std::size_t width,
                      std::byte* out) {
  const std::size_t n = rows.size();
  const std::size_t ahead = std::clamp<std::size_t>(kPrefetchBytes / std::max<std::size_t>(width, 1), 4, 16);
  const std::size_t of_row = std::min(width, kPrefetchOfRow);
  for (std::size_t i = 0; i < n; ++i) {
    if (i + ahead < n) {
      const std::byte* next = table + static_cast<std::size_t>(rows[i + ahead]) * width;
      for (std::size_t at = 0; at < of_row; at += kCacheLine) __builtin_prefetch(next + at, 0, 2);
    }
    std::memcpy(out + i * width, table + static_cast<std::size_t>(rows[i]) * width, width);
  }
}

// Copies table rows into gather.out. Returns why it could not (nothing is read out of bounds), empty when
// done.
inline std::string copy_rows(const std::byte* table, std::size_t table_rows, const Gather& gather) {
  for (const std::int64_t row : gather.rows)
    if (row < 0 || static_cast<std::size_t>(row) >= table_rows)
      return "row " + std::to_string(row) + " is outside the peer's table of " + std::to_string(table_rows) +
             " rows";
  copy_rows(table, gather.rows, gather.row_bytes, gather.out);
  return {};
}

}  // namespace rudder

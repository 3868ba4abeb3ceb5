// Gathering rows of a table that is mapped in this process, shared by the transports that can.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string>

#include "transport/transport.h"

namespace rudder {

// Rows ahead of the one being copied whose first lines are requested: covers a DRAM access at ~20 ns per
// short row.
inline constexpr std::size_t kRowPrefetchAhead = 8;

// Copies table rows into gather.out. Returns why it could not (nothing is read out of bounds), empty when
// done.
inline std::string copy_rows(const std::byte* table, std::size_t table_rows, const Gather& gather) {
  for (const std::int64_t row : gather.rows)
    if (row < 0 || static_cast<std::size_t>(row) >= table_rows)
      return "row " + std::to_string(row) + " is outside the peer's table of " + std::to_string(table_rows) +
             " rows";
  const std::size_t width = gather.row_bytes;
  const std::size_t n = gather.rows.size();
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kRowPrefetchAhead < n)
      __builtin_prefetch(table + static_cast<std::size_t>(gather.rows[i + kRowPrefetchAhead]) * width);
    std::memcpy(gather.out + i * width, table + static_cast<std::size_t>(gather.rows[i]) * width, width);
  }
  return {};
}

}  // namespace rudder

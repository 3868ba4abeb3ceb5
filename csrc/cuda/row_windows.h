// Rows as slots of 4 bytes, half of what addresses take on their way to the GPU. Memory in which rows lie one
// after another is cut into windows of kWindowRows rows; a slot is the number of a window and that of a row
// in it (row_copy.h), so one list names rows of any mix of memory. One thread fills it; then any may ask.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/row_copy.h"

namespace rudder::cuda {

class RowWindows {
 public:
  using Slot = std::uint32_t;
  static constexpr std::size_t kWindowRows = std::size_t{1} << kRowBits;
  // What the upper bits of a slot can tell apart: 2^32 rows in all.
  static constexpr std::size_t kMost = std::size_t{1} << (32 - kRowBits);

  explicit RowWindows(std::size_t row_bytes)
      : row_bytes_(row_bytes), shift_(std::countr_zero(row_bytes)), inverse_(row_bytes >> shift_) {
    // Newton's way to the inverse of an odd number modulo 2^64: right in 3 bits to begin with, in twice as
    // many after each turn.
    const std::size_t odd = inverse_;
    for (int turn = 0; turn < 5; ++turn) inverse_ *= 2 - odd * inverse_;
  }

  // Memory whose rows begin at `begin`; returns the number of its first window.
  std::size_t add(const std::byte* begin, std::size_t rows) {
    const std::size_t first = starts_.size();
    for (std::size_t row = 0; row < rows; row += kWindowRows) starts_.push_back(begin + row * row_bytes_);
    return first;
  }
  // Where each window begins.
  const std::vector<const std::byte*>& starts() const { return starts_; }

  static Slot slot(std::size_t first_window, std::size_t row) {
    return static_cast<Slot>(first_window * kWindowRows + row);
  }
  // The number of the row that begins `offset` bytes into memory of so many rows; false where none does. An
  // exact division is a multiplication by the inverse: what is no multiple comes out beyond every row.
  bool row_at(std::size_t offset, std::size_t rows, std::size_t& row) const {
    row = (offset >> shift_) * inverse_;
    return row < rows && row * row_bytes_ == offset;
  }

 private:
  const std::size_t row_bytes_;
  const int shift_;
  std::size_t inverse_;  // of the odd part of row_bytes, modulo 2^64
  std::vector<const std::byte*> starts_;
};

}  // namespace rudder::cuda

#include "policy/top_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace rudder {
namespace {

// Worth as an integer of the same order: the bits of a float that is >= 0 order as its value does.
std::uint32_t rank(const Prior& prior, std::size_t row) {
  return std::bit_cast<std::uint32_t>(prior.worth()[row] + 0.0f);
}

}  // namespace

std::vector<NodeId> top_rows(const Prior& prior, std::size_t count, bool positive) {
  const std::size_t rows = prior.levels().size();
  // Radix selection of the lowest rank that still gets in: upper half of the bits first, then the lower half.
  std::array<std::size_t, 1u << 16> histogram{};
  std::uint32_t bar = 0;
  std::size_t left =
      std::min(count, rows);  // rows still to choose among those that share the bits found so far
  for (const int shift : {16, 0}) {
    histogram.fill(0);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::uint32_t r = rank(prior, row);
      if (shift == 16 || r >> 16 == bar >> 16) ++histogram[(r >> shift) & 0xFFFF];
    }
    std::uint32_t bin = 0xFFFF;
    while (bin > 0 && histogram[bin] < left) left -= histogram[bin--];
    bar |= bin << shift;
  }
  std::vector<NodeId> top;
  top.reserve(std::min(count, rows));
  for (std::size_t row = 0; row < rows; ++row) {
    const std::uint32_t r = rank(prior, row);
    if (r < bar || (positive && r == 0)) continue;
    if (r == bar) {
      if (left == 0) continue;
      --left;
    }
    top.push_back(static_cast<NodeId>(row));
  }
  return top;
}

}  // namespace rudder

#include "common/prior.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "common/error.h"

namespace rudder {

std::shared_ptr<const Prior> Prior::from_worth(std::span<const float> worth) {
  // Worth on a log scale: the upper half of a float's bits, steps of 0.4 to 0.8%.
  constexpr int kShift = 16;
  std::vector<double> mass(1u << (32 - kShift));
  for (const float w : worth) {
    if (!std::isfinite(w) || w < 0)
      throw Error(ErrorCode::kConfig, "a prior must be finite and >= 0 for every row");
    mass[std::bit_cast<std::uint32_t>(std::abs(w)) >> kShift] += std::sqrt(static_cast<double>(w));
  }
  // A level is full when it holds its share of the mass that is left; where there are levels enough for the
  // steps that are left, each step gets its own.
  double mass_left = std::accumulate(mass.begin(), mass.end(), 0.0);
  auto steps_left = mass.size() - static_cast<std::size_t>(std::count(mass.begin(), mass.end(), 0.0));
  std::vector<std::uint8_t> level(mass.size());
  int now = 1;
  double in_level = 0, share = mass_left / (kLevels - 1);
  for (std::size_t step = 0; step < mass.size(); ++step) {
    if (mass[step] == 0) continue;
    level[step] = static_cast<std::uint8_t>(now);
    in_level += mass[step];
    --steps_left;
    const auto levels_left = static_cast<std::size_t>(kLevels - 1 - now);
    if (levels_left == 0 || (in_level < share && steps_left > levels_left)) continue;
    mass_left -= std::exchange(in_level, 0.0);
    share = mass_left / static_cast<double>(levels_left);
    ++now;
  }
  auto prior = std::make_shared<Prior>();
  prior->worth_.assign(worth.begin(), worth.end());
  prior->levels_.resize(worth.size());
  std::transform(worth.begin(), worth.end(), prior->levels_.begin(), [&](float w) -> std::uint8_t {
    return w > 0 ? level[std::bit_cast<std::uint32_t>(w) >> kShift] : 0;
  });
  return prior;
}

std::shared_ptr<const Prior> Prior::without(std::shared_ptr<const Prior> prior, NodeId begin, NodeId end) {
  if (!prior) return prior;
  const auto clipped = [&](NodeId id) {
    return static_cast<std::ptrdiff_t>(std::min(static_cast<std::size_t>(value(id)), prior->levels_.size()));
  };
  const std::ptrdiff_t first = clipped(begin), last = clipped(end);
  if (std::all_of(prior->levels_.begin() + first, prior->levels_.begin() + last,
                  [](auto level) { return level == 0; }))
    return prior;
  auto masked = std::make_shared<Prior>(*prior);
  std::fill(masked->levels_.begin() + first, masked->levels_.begin() + last, std::uint8_t{0});
  std::fill(masked->worth_.begin() + first, masked->worth_.begin() + last, 0.0f);
  return masked;
}

}  // namespace rudder

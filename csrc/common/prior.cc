#include "common/prior.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

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
  // Level of each step by the mass below it.
  const double total = std::accumulate(mass.begin(), mass.end(), 0.0);
  std::vector<std::uint8_t> level(mass.size());
  double below = 0;
  for (std::size_t step = 0; step < mass.size(); ++step) {
    level[step] = static_cast<std::uint8_t>(1 + std::min(254.0, total > 0 ? 255.0 * below / total : 0.0));
    below += mass[step];
  }
  auto prior = std::make_shared<Prior>();
  prior->worth_.assign(worth.begin(), worth.end());
  prior->levels_.resize(worth.size());
  std::transform(worth.begin(), worth.end(), prior->levels_.begin(), [&](float w) -> std::uint8_t {
    return w > 0 ? level[std::bit_cast<std::uint32_t>(w) >> kShift] : 0;
  });
  return prior;
}

std::shared_ptr<const Prior> Prior::from_levels(std::vector<std::uint8_t> levels) {
  auto prior = std::make_shared<Prior>();
  prior->levels_ = std::move(levels);
  return prior;
}

}  // namespace rudder

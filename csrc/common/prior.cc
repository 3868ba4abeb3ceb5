#include "common/prior.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"

namespace rudder {

std::shared_ptr<const Prior> Prior::from_worth(std::span<const float> worth) {
  float low = std::numeric_limits<float>::infinity();
  float high = 0;
  for (const float w : worth) {
    if (!std::isfinite(w) || w < 0)
      throw Error(ErrorCode::kConfig, "a prior must be finite and >= 0 for every row");
    if (w > 0) low = std::min(low, w);
    high = std::max(high, w);
  }
  auto prior = std::make_shared<Prior>();
  prior->levels_.resize(worth.size());
  prior->worth_.assign(worth.begin(), worth.end());
  const float log_low = std::log(low);
  // Levels 1..255 for positive worth; one level is enough where all are equal.
  const float scale = high > low ? 254.0f / (std::log(high) - log_low) : 0.0f;
  std::transform(worth.begin(), worth.end(), prior->levels_.begin(), [&](float w) -> std::uint8_t {
    if (w <= 0) return 0;
    const float level = 1.0f + (std::log(w) - log_low) * scale;
    return static_cast<std::uint8_t>(std::clamp(level + 0.5f, 1.0f, 255.0f));
  });
  return prior;
}

std::shared_ptr<const Prior> Prior::from_levels(std::vector<std::uint8_t> levels) {
  auto prior = std::make_shared<Prior>();
  prior->levels_ = std::move(levels);
  return prior;
}

}  // namespace rudder

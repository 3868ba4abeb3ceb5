// What is known of a row beyond the window: its worth by VIP, degree or frequency, quantised to one byte per
// row of the table. Immutable once built, so it may be shared.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/types.h"

namespace rudder {

class Prior {
 public:
  static constexpr int kLevels = 256;

  // `worth[i]` is the worth of NodeId i, >= 0 and finite. Level 0 is kept for worth 0. Few distinct worths
  // get a level each; else the levels hold about equal shares of the sum of the square roots of worth: equal
  // steps of log worth would spend levels where there are no rows, equal numbers of rows would spend them on
  // rows that are hardly requested. So `lookahead` moves rows within 0.1% of exact ranking. Throws
  // Error(kConfig) for NaN, infinity or a negative.
  static std::shared_ptr<const Prior> from_worth(std::span<const float> worth);

  // The same with the rows [begin, end) worth nothing: those of the local partition are never fetched, so a
  // policy that ranks the whole table must not choose them.
  static std::shared_ptr<const Prior> without(std::shared_ptr<const Prior> prior, NodeId begin, NodeId end);

  // Rows outside the table have level 0.
  std::uint8_t level(NodeId id) const {
    const auto i = static_cast<std::uint64_t>(value(id));
    return i < levels_.size() ? levels_[i] : 0;
  }
  std::span<const std::uint8_t> levels() const { return levels_; }
  // The worth that the levels were made from. Static policies rank by it.
  std::span<const float> worth() const { return worth_; }

 private:
  std::vector<std::uint8_t> levels_;
  std::vector<float> worth_;
};

}  // namespace rudder

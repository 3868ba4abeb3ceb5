#include "shadow/numbering.h"

#include <algorithm>
#include <string>

#include "common/error.h"

namespace rudder {

std::vector<std::int64_t> Numbering::of(std::span<const NodeId> ids) {
  sorted_.assign(ids.begin(), ids.end());
  std::ranges::sort(sorted_);
  sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
  if (!sorted_.empty() && value(sorted_.front()) < 0)
    throw Error(ErrorCode::kOutOfRange, "id " + std::to_string(value(sorted_.front())) + " is below 0");
  std::vector<std::int64_t> numbers;
  numbers.reserve(sorted_.size());
  for (const NodeId id : sorted_) {
    RowKey number = index_.find(id);
    if (number == kNoRow) {
      number = static_cast<RowKey>(ids_.size());
      index_.insert(id, number);
      ids_.push_back(id);
    }
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace rudder

#include "policy/two_phase.h"

namespace rudder {
void TwoPhasePolicy::erase(RowKey row) {
  forget(row);
  place_[row] = kAbsent;
  --size_;
}

void TwoPhasePolicy::set_capacity(std::size_t rows, std::vector<RowKey>& evicted) {
  capacity_ = rows;
  evicted_ = &evicted;
  resized();
  while (size_ > capacity_) evict_one();
}

}  // namespace rudder

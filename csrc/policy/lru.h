// LRU: a full buffer loses the row that was requested longest ago. The textbook baseline (Mattson et
// al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970,
// doi:10.1147/sj.92.0078).
//
// State per row: two links (8 bytes).
//
// Not suited to: neighbourhood sampling, where most rows are requested once in a while and each such row
// pushes out one that is requested all the time.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_lru(const PolicyConfig& config);

}  // namespace rudder

// LFU: a full buffer loses the row with the fewest requests since it entered; ties go to the one
// requested longest ago. Constant time per access (Shah, Mitra and Matani, "An O(1) algorithm for
// implementing the LFU cache eviction scheme", 2010, arXiv:2110.11602).
//
// State per row: its count and two links (12 bytes); one list head per count in use, and no count
// exceeds the number of minibatches that a row stayed. Counts die with the row.
//
// Not suited to: access patterns that drift (a new training set): rows popular long ago never leave.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_lfu(const PolicyConfig& config);

}  // namespace rudder

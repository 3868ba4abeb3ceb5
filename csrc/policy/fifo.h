// FIFO: a full buffer loses the row that entered it first; being requested changes nothing. The textbook
// baseline (Belady, Nelson and Shedler, CACM 12(6), 1969, doi:10.1145/363011.363155, who also show its
// anomaly: more capacity may mean more misses).
//
// State per row: two links (8 bytes; one would do, but erase() must take rows out of the middle).
//
// Not suited to: anything but a lower bar for comparison.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_fifo(const PolicyConfig& config);

}  // namespace rudder

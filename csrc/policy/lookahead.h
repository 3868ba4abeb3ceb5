// Lookahead: keep the rows whose next use in the window is nearest, and among rows without one those of the
// highest prior. Belady's rule (IBM Systems Journal 5(2), 1966) as far as the window sees, with bypass.
//
// O(1) per access: no sort, no decay pass. Every cached row hangs in one intrusive list: one list per
// minibatch of the window (rows whose next use it is), and one per prior level (rows with no use in the
// window). A minibatch admits its misses on paper, then the worst rows are popped until capacity holds:
// lowest prior level first (the longest untouched row of a level first), then the farthest next use. What
// survives is inserted.
//
// Not suited to: a window shorter than about one buffer of requests; then the prior decides nearly alone.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_lookahead(const PolicyConfig& config);

}  // namespace rudder

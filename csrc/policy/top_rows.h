// The rows of highest worth by a prior.
#pragma once

#include <cstddef>
#include <vector>

#include "common/prior.h"
#include "common/types.h"

namespace rudder {

// The `count` rows of highest worth in the prior's table (all of them, where it has fewer), in the order of
// their ids; ties go to the lower id. `positive`: leaves out rows of worth 0. Linear in the table; the memory
// beyond the answer is constant.
std::vector<NodeId> top_rows(const Prior& prior, std::size_t count, bool positive);

}  // namespace rudder

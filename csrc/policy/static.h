// Static: a fixed set of `capacity` rows, each kept from its first miss on, never evicted. The set is
// the rows of highest worth by the prior: VIP (static-vip; Kaler et al., "Communication-efficient graph
// neural networks with probabilistic neighborhood expansion analysis and caching", MLSys 2023,
// arXiv:2305.03152), or degree (static-degree; Lin et al., "PaGraph", SoCC 2020,
// doi:10.1145/3419111.3421281). static-frequency counts requests itself for its first `observe`
// minibatches (or until observe() says that they were enough: an epoch, say) while it keeps whatever
// comes first, then fixes the set to the rows counted most often (as GNNLab, EuroSys 2022,
// doi:10.1145/3492321.3519557, does by pre-sampling). A prior that comes later replaces the set of any of
// them; ties go to the lower id. Without a prior (and for as long as it counts) the first rows to come are
// kept.
//
// State per row: its id and two links (16 bytes); per row of the set 32 bytes; while counting, 44 bytes
// per id seen.
//
// Not suited to: a training set that changes, unless the prior is rebuilt with it.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

// For static-vip, static-degree and static-frequency.
std::unique_ptr<Policy> make_static(const PolicyConfig& config);

}  // namespace rudder

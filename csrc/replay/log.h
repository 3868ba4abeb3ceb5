// The calls that a live run's ledger got, given to a ledger of the same settings. Its answers depend on
// nothing else, so the rows are exactly those of the run. With another policy or capacity, it is the same run
// under other settings. Thread-safety: calls are independent of each other.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "common/prior.h"
#include "common/types.h"
#include "ledger/ledger.h"
#include "replay/replay.h"

namespace rudder {

// One call, as LedgerCall of the prefetcher has it.
struct LogCall {
  // foresee | execute | read | drop | capacity | depth | prior | replace | fraction | observe |
  // unstage | invalidate
  std::string_view name;
  // capacity: rows. unstage: minibatch. depth, observe: minibatches. replace: 0 or 1. fraction: percent.
  // invalidate: rows fetched again for minibatches on their way. drop: minibatches executed, but dropped
  // before they were used. Otherwise not looked at.
  std::uint64_t number = 0;
  std::span<const NodeId> ids;
};

// As the live counters do, counts a dropped minibatch's rows as moved, but not as requested. `priors` are
// those of the "prior" calls, in order; one that comes before every other call is what the policy starts
// with. Throws Error(kConfig) for an unknown policy, and Error(kFormat) for a call that is unknown or out of
// place, an id outside of the table, or a prior that is missing.
Totals replay_log(std::span<const LogCall> calls, std::span<const std::shared_ptr<const Prior>> priors,
                  LedgerConfig config);

}  // namespace rudder

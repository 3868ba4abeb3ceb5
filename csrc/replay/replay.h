// A trace run through a policy by the very ledger that a live run uses, counting rows instead of moving them.
// Thread-safety: calls are independent of each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "ledger/ledger.h"
#include "ledger/totals.h"
#include "policy/policy.h"
#include "replay/trace.h"

namespace rudder {

// How far the window reaches beyond the minibatch being executed: this many minibatches, or until they
// request this many rows, whichever reaches farther. 0 and 0: no lookahead.
struct Reach {
  std::size_t minibatches = 0;
  std::size_t rows = 0;
  // The window is filled only when it ran empty, rather than kept full.
  bool tumbling = false;
};

struct ReplayConfig {
  PolicyConfig policy;
  Reach window;
  // Minibatches for which a row that was fetched but not kept can still serve (LedgerConfig::depth).
  std::size_t depth = 0;
};

// Executes the minibatches [begin, end) of the trace on a ledger whose window holds the first of them (or
// none) already: sees to it that the window reaches as far as it should, and visits every verdict, in order.
// REQUIRES begin <= end <= trace.minibatches(), and the trace's ids below the ledger's id space.
void advance(Ledger& ledger, const Trace& trace, const Reach& window, std::size_t begin, std::size_t end,
             const std::function<void(const Verdict&)>& visit);

// Throws Error(kConfig) for an unknown policy.
Totals replay(const Trace& trace, const ReplayConfig& config);

}  // namespace rudder

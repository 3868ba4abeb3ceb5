// SIEVE: a FIFO queue with a hand. A request marks its row; the hand walks from the oldest row to the
// newest, unmarks the marked rows that it meets and evicts the first unmarked one, then stays there
// (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024,
// https://www.usenix.org/conference/nsdi24/presentation/zhang-yazhuo).
//
// State per row: two links and a mark (9 bytes). A hit writes one byte and moves nothing.
//
// Not suited to: minibatches close to the capacity: all rows of a minibatch enter before any can be
// marked.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_sieve(const PolicyConfig& config);

}  // namespace rudder

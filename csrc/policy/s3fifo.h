// S3-FIFO: three FIFO queues. Rows enter a small queue of a tenth of the capacity; those requested again
// before they reach its end move on to the main queue, the others leave, and their ids are remembered
// for a while: a row missed while it is remembered enters the main queue directly. The main queue gives
// requested rows another round (Yang et al., "FIFO queues are all you need for cache eviction", SOSP
// 2023, doi:10.1145/3600006.3613147).
//
// State per row: two links, a count of 0 to 3 and the queue (10 bytes); per remembered id (nine tenths
// of the capacity) 20 bytes and up to 32 of index.
//
// Not suited to: capacities of a few minibatches, where a minibatch flushes the small queue before a
// second request can come.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_s3fifo(const PolicyConfig& config);

}  // namespace rudder

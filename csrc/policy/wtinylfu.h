// W-TinyLFU: rows enter a small LRU window (1% of the capacity). One that falls out of it gets into the
// main part only if it has been requested more often than the row that would leave for it, by an aging
// sketch of counts. The main part is a segmented LRU: on probation until requested again, then protected
// (Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", ACM TOS 13(4),
// 2017, arXiv:1512.00727).
//
// State per row: two links, the id and the segment (17 bytes); the sketch takes 32 to 64 bytes per row
// of capacity.
//
// Not suited to: counts that differ by less than the sketch can tell; a prior such as VIP knows them
// beforehand.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_wtinylfu(const PolicyConfig& config);

}  // namespace rudder

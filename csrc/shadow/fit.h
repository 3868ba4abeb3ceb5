// A link's speed, from what an interval measured: that at which the model fetches for as long as the run.
#pragma once

#include <span>

#include "shadow/feed.h"
#include "shadow/pipeline.h"

namespace rudder {

// Seconds of a row on the link, so that fetches are under way for `fetching` seconds in all. `moved`: rows of
// each minibatch from `begin` on, whose other costs are in the feed; seconds a row of these are overwritten.
// `guess` where nothing was fetched; the answer is at most 10^4 times more or less than that. REQUIRES guess
// > 0. Throws Error(kOutOfRange) where the feed has fewer.
double row_seconds(const Pipeline& begin, Feed& feed, std::span<const double> moved, double fetching,
                   double guess);

}  // namespace rudder

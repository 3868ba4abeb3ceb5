#include "shadow/feed.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/error.h"

namespace rudder {

void Feed::append(Minibatch minibatch) {
  const Sums before = all_;
  all_ = {before.requests + minibatch.requests, before.bytes + minibatch.block_bytes};
  kept_.push_back({std::move(minibatch), before});
}

void Feed::pass_by() {
  if (!kept_.empty()) throw Error(ErrorCode::kState, "minibatches are kept: forget them first");
  ++first_;
}

void Feed::cost(std::int64_t begin, std::int64_t end, double compute, double row_seconds, double latency) {
  check(begin, end);
  for (std::int64_t t = begin; t < end; ++t) {
    Minibatch& some = kept_[place(t)].what;
    some.compute = compute;
    some.row_seconds = row_seconds;
    some.latency = latency;
  }
}

void Feed::cost(std::int64_t begin, std::int64_t end, double row_seconds) {
  check(begin, end);
  for (std::int64_t t = begin; t < end; ++t) kept_[place(t)].what.row_seconds = row_seconds;
}

void Feed::renumber(std::int64_t minibatch, std::span<const NodeId> ids) {
  check(minibatch, minibatch + 1);
  kept_[place(minibatch)].what.ids.assign(ids.begin(), ids.end());
}

void Feed::forget(std::int64_t before) {
  const std::int64_t count = std::clamp<std::int64_t>(before - first_, 0, end() - first_);
  kept_.erase(kept_.begin(), kept_.begin() + count);
  first_ += count;
}

void Feed::truncate(std::int64_t end) {
  const std::int64_t keep = std::clamp<std::int64_t>(end - first_, 0, this->end() - first_);
  if (keep < this->end() - first_) all_ = before(first_ + keep);
  kept_.resize(static_cast<std::size_t>(keep));
  first_ = std::min(first_, end);
}

void Feed::check(std::int64_t begin, std::int64_t end) const {
  if (begin < end && (begin < first_ || end > this->end()))
    throw Error(ErrorCode::kOutOfRange, "minibatches " + std::to_string(begin) + " to " +
                                            std::to_string(end) + " of a feed that has those from " +
                                            std::to_string(first_) + " to " + std::to_string(this->end()));
}

}  // namespace rudder

#include "shadow/pipeline.h"

#include <algorithm>
#include <limits>

#include "common/error.h"

namespace rudder {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::infinity();
constexpr double kNever = -kUnknown;
// Times kept behind the minibatch that is next: the queue and the deepest pipeline reach no further back.
constexpr std::int64_t kKept = Pipeline::kMostWaiting + 64;

void check(const Pipeline::Settings& settings) {
  if (settings.depth < 0) throw Error(ErrorCode::kConfig, "a pipeline's depth must not be negative");
}

}  // namespace

void Pipeline::Times::set(std::int64_t minibatch, double seconds) {
  const auto place = static_cast<std::size_t>(minibatch - first_);
  if (place == seconds_.size())
    seconds_.push_back(seconds);
  else
    seconds_[place] = seconds;
}

void Pipeline::Times::forget(std::int64_t before) {
  const auto known = static_cast<std::int64_t>(seconds_.size());
  // In large bites: each moves what is left.
  if (before - first_ < kKept) return;
  const std::int64_t count = std::min(before - first_, known);
  seconds_.erase(seconds_.begin(), seconds_.begin() + count);
  first_ += count;
}

Pipeline::Pipeline(const Settings& settings, std::int64_t first)
    : settings_(settings),
      next_(first),
      sampled_(first),
      first_(first),
      old_depth_(settings.depth),
      sampled_at_(first),
      popped_(first),
      decided_(first),
      begun_(first) {
  check(settings);
}

void Pipeline::steer(const Feed& feed, const Settings& settings) {
  check(settings);
  // Samples that the old settings let start before now are under way; the next one starts from now on.
  begun_samples_ = sampled_;
  for (std::int64_t s = sampled_; s < feed.end(); ++s) {
    const double start = std::max(sampler_, room(feed, s, next_));
    if (start >= clock_) break;
    sampler_ = start + feed[s].sampling;
    sampled_at_.set(s, sampler_);
    begun_samples_ = s + 1;
  }
  sampler_ = std::max(sampler_, clock_);
  old_depth_ = settings_.depth;
  steered_ = clock_;
  settings_ = settings;
  queue_from_ = window_from_ = std::max(feed.first(), next_ - kKept);
}

void Pipeline::drop() {
  sampled_ = begun_samples_ = next_;
  sampler_ = std::max(sampler_, clock_);
}

void Pipeline::run(const Feed& feed, Rows& rows, std::int64_t end) {
  feed.check(next_, end);
  for (std::int64_t t = next_; t < end; ++t) {
    const double decided = sample(feed, rows, t);
    const double moved = rows.execute(t);
    decided_.set(t, decided);
    decided_last_ = decided;
    const double asked = std::max(clock_, sampled_at_.at(t, kUnknown));
    stalled_sampling_ += asked - clock_;
    double begun = asked;
    if (moved > 0) {
      link_ = std::max(link_, decided) + moved * feed[t].row_seconds;
      const double arrived = link_ + feed[t].latency;
      fetching_ += std::max(0.0, arrived - std::max(decided, arrived_));
      arrived_ = std::max(arrived_, arrived);
      begun = std::max(asked, arrived);
    }
    stalled_fetching_ += begun - asked;
    popped_.set(t, asked);
    begun_.set(t, begun);
    clock_ = begun + feed[t].compute;
    next_ = t + 1;
  }
  for (Times* times : {&sampled_at_, &popped_, &decided_, &begun_}) times->forget(next_ - kKept);
}

// Samples what is ready before minibatch t is decided on; returns when it is.
double Pipeline::sample(const Feed& feed, Rows& rows, std::int64_t t) {
  double decided = may_decide(t);
  if (t < sampled_) decided = std::max(decided, sampled_at_.at(t, kUnknown));
  while (sampled_ < feed.end()) {
    const std::int64_t s = sampled_;
    const double done = s < begun_samples_ ? sampled_at_.at(s, kUnknown)
                                           : std::max(sampler_, room(feed, s, t)) + feed[s].sampling;
    if (s > t && done > decided) break;
    sampled_at_.set(s, done);
    sampler_ = std::max(sampler_, done);
    rows.foresee(s);
    sampled_ = s + 1;
    if (s == t) decided = std::max(decided, done);
  }
  return decided;
}

// When the depth lets minibatch t be decided on.
double Pipeline::may_decide(std::int64_t t) const {
  if (settings_.depth == 0) return std::max(clock_, decided_last_);
  const std::int64_t before = t - first_;  // so many minibatches
  const auto begun = [&](std::int64_t depth) {
    return begun_.at(t - depth, before < depth ? kNever : kUnknown);
  };
  // Under way already when the depth was changed?
  const double old = begun(old_depth_);
  const double may = old <= steered_ ? old : std::max(begun(settings_.depth), steered_);
  return std::max(may, decided_last_);
}

// When sampling minibatch s may start; unknown where it waits for minibatch t.
double Pipeline::room(const Feed& feed, std::int64_t s, std::int64_t t) {
  const auto waiting_bytes = [&](std::int64_t from) { return feed.bytes_until(s) - feed.bytes_until(from); };
  queue_from_ = std::max(queue_from_, feed.first());  // what the feed forgot waits no more
  while (queue_from_ < s &&
         (s - queue_from_ >= kMostWaiting || waiting_bytes(queue_from_) >= settings_.waiting_bytes))
    ++queue_from_;
  if (queue_from_ > t) return kUnknown;
  window_from_ = std::max(window_from_, feed.first());
  while (window_from_ < s &&
         feed.requests_until(s) - feed.requests_until(window_from_) >= settings_.window_rows)
    ++window_from_;
  const double by_rows = window_from_ <= t ? decided_.at(window_from_ - 1, kNever) : kUnknown;
  // So many popped: the queue is no longer than the pipeline is deep.
  const std::int64_t shallow = s - settings_.depth;
  const double by_depth = shallow <= t ? popped_.at(shallow - 1, kNever) : kUnknown;
  return std::max(popped_.at(queue_from_ - 1, kNever), std::min(by_rows, by_depth));
}

}  // namespace rudder

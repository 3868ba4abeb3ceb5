#include "policy/two_phase.h"

namespace rudder {
namespace {

// Rows whose book-keeping is asked for ahead of time: a few cover the latency of the last-level cache, and
// the list neighbours behind them can't be known early anyway.
constexpr std::size_t kPrefetchAhead = 8;

}  // namespace

void TwoPhasePolicy::execute(const Step& step, Outcome& out) {
  const std::size_t rows = step.rows.size();
  out.reset(rows);
  out_ = &out;
  evicted_ = &out.evicted;
  step_ = &step;
  std::size_t hits = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    if (i + kPrefetchAhead < rows) __builtin_prefetch(&place_[step.rows[i + kPrefetchAhead]]);
    if (place_[step.rows[i]] == kAbsent) continue;
    out.hit[i] = 1;
    ++hits;
    touch(step.rows[i]);
  }
  before_offers();
  if (capacity_ > 0 && hits < rows)
    for (std::size_t i = 0; i < rows; ++i)
      if (out.hit[i] == 0) {
        position_ = static_cast<std::uint32_t>(i);
        offer(step.rows[i], step.ids[i]);
      }
  finish(step, out);
  step_ = nullptr;
}

void TwoPhasePolicy::erase(RowKey row) {
  forget(row);
  place_[row] = kAbsent;
  --size_;
}

void TwoPhasePolicy::set_capacity(std::size_t rows, std::vector<RowKey>& evicted) {
  capacity_ = rows;
  evicted_ = &evicted;
  resized();
  while (size_ > capacity_) evict_one();
}

}  // namespace rudder

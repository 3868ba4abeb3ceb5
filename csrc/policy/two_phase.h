// The rule of two phases, written once for every policy without lookahead: in a minibatch, first each hit is
// touched, then each miss is offered, both in the order of the request. A policy says what a touch does, how
// a miss enters and who leaves; this base keeps the books that the contract of policy.h asks for. A policy is
// a final class, names TwoPhasePolicy its friend, and has run(*this, ...) for its execute().
//
// Invariant: place_[row] is kAbsent unless the row is cached; otherwise it is the row's position in the step
// that inserted it (kAdopted for a replacement). So a cached row found at that very position of the step
// being executed, and not hit there, was inserted by this step.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "policy/policy.h"

namespace rudder {

class TwoPhasePolicy : public Policy {
 public:
  explicit TwoPhasePolicy(std::size_t capacity) : capacity_(capacity) {}

  void reserve(std::size_t keys) final {
    if (keys <= place_.size()) return;
    place_.resize(keys, kAbsent);
    reserve_state(keys);
  }
  bool cached(RowKey row) const final { return row < place_.size() && place_[row] != kAbsent; }
  void erase(RowKey row) final;
  void set_capacity(std::size_t rows, std::vector<RowKey>& evicted) final;
  std::size_t size() const final { return size_; }
  std::size_t capacity() const final { return capacity_; }

 protected:
  // What execute() of a policy does. `self` is of the policy's own, final class, so that its hooks are
  // compiled into the loops: they are a handful of instructions each.
  template <typename Self>
  static void run(Self& self, const Step& step, Outcome& out);

  // Sizes the per-row state; keys only grow.
  virtual void reserve_state(std::size_t keys) = 0;
  // A cached row was requested.
  virtual void touch(RowKey row) = 0;
  // Between the two phases.
  virtual void before_offers() {}
  // A row was missed: enter() it, after having called evict_one() as often as needed, or let it pass.
  // Called with capacity() > 0. ENSURES size() <= capacity().
  virtual void offer(RowKey row, NodeId id) = 0;
  // After both phases; a policy that replaces says so here, through out.replacements.
  virtual void finish(const Step& step, Outcome& out) {
    (void)step;
    (void)out;
  }
  // Chooses a cached row, forgets its state and calls leave() for it. REQUIRES size() > 0.
  virtual void evict_one() = 0;
  // Forgets the state of a cached row; the base does the rest.
  virtual void forget(RowKey row) = 0;
  // The capacity changed; rows may leave here, evict_one() then sees to the rest.
  virtual void resized() {}

  // The row being offered enters the buffer.
  void enter(RowKey row) {
    place_[row] = position_;
    out_->keep[position_] = 1;
    ++size_;
  }
  // A replacement enters the buffer, outside any step.
  void enter_adopted(RowKey row) {
    place_[row] = kAdopted;
    ++size_;
  }
  // The row leaves the buffer; one that entered in this very step goes without a trace.
  void leave(RowKey row) {
    const std::uint32_t at = place_[row];
    place_[row] = kAbsent;
    --size_;
    if (step_ != nullptr && at < step_->rows.size() && step_->rows[at] == row && out_->hit[at] == 0)
      out_->keep[at] = 0;
    else
      evicted_->push_back(row);
  }

 private:
  static constexpr std::uint32_t kAbsent = std::numeric_limits<std::uint32_t>::max();
  static constexpr std::uint32_t kAdopted = kAbsent - 1;  // no step has such a position

  std::size_t capacity_;
  std::size_t size_ = 0;
  std::vector<std::uint32_t> place_;
  // The call in progress.
  const Step* step_ = nullptr;
  std::uint32_t position_ = 0;
  Outcome* out_ = nullptr;
  std::vector<RowKey>* evicted_ = nullptr;
};

template <typename Self>
void TwoPhasePolicy::run(Self& self, const Step& step, Outcome& out) {
  // Rows whose book-keeping is asked for ahead of time: a few cover the latency of the last-level cache, and
  // the list neighbours behind them can't be known early anyway.
  constexpr std::size_t kPrefetchAhead = 8;
  TwoPhasePolicy& base = self;
  const std::size_t rows = step.rows.size();
  out.resize(rows);
  base.out_ = &out;
  base.evicted_ = &out.evicted;
  base.step_ = &step;
  std::size_t hits = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    if (i + kPrefetchAhead < rows) __builtin_prefetch(&base.place_[step.rows[i + kPrefetchAhead]]);
    const bool hit = base.place_[step.rows[i]] != kAbsent;
    out.hit[i] = hit;
    out.keep[i] = 0;
    if (!hit) continue;
    ++hits;
    self.touch(step.rows[i]);
  }
  self.before_offers();
  if (base.capacity_ > 0 && hits < rows)
    for (std::size_t i = 0; i < rows; ++i)
      if (out.hit[i] == 0) {
        base.position_ = static_cast<std::uint32_t>(i);
        self.offer(step.rows[i], step.ids[i]);
      }
  self.finish(step, out);
  base.step_ = nullptr;
}

}  // namespace rudder

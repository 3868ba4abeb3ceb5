#include "ledger/counted.h"

#include <string>
#include <utility>

#include "common/error.h"

namespace rudder {

Seq CountedLedger::foresee(std::span<const NodeId> ids) {
  check(ids);
  return ledger_.foresee(ids);
}

std::size_t CountedLedger::execute() {
  if (ledger_.window().empty())
    throw Error(ErrorCode::kState, "the window is empty: foresee a minibatch first");
  return count(ledger_.execute());
}

std::size_t CountedLedger::read(std::span<const NodeId> ids) {
  check(ids);
  return count(ledger_.execute_now(ids));
}

void CountedLedger::steer(Change change) {
  if (change.capacity && *change.capacity != ledger_.policy().capacity()) {
    ledger_.set_capacity(*change.capacity);
    rows_evicted_ += ledger_.evicted().size();
  }
  if (change.depth) ledger_.set_depth(*change.depth);
  if (change.prior) ledger_.set_prior(std::move(change.prior));
  if (change.fraction) ledger_.limit_replacement(*change.fraction);
  if (change.replace) ledger_.allow_replacement(*change.replace);
  if (change.observe) ledger_.observe(*change.observe);
}

void CountedLedger::invalidate(std::span<const NodeId> ids) {
  check(ids);
  for (const NodeId id : ids) rows_evicted_ += ledger_.invalidate(id) != kNoRow;
}

std::size_t CountedLedger::count(const Verdict& verdict) {
  ++minibatches_;
  totals_.count(verdict);
  rows_evicted_ += verdict.evicted.size();
  return verdict.misses + verdict.replaced.size();
}

void CountedLedger::check(std::span<const NodeId> ids) const {
  for (const NodeId id : ids)
    if (value(id) < 0 || value(id) >= id_space_)
      throw Error(ErrorCode::kOutOfRange, "id " + std::to_string(value(id)) + " is outside of [0, " +
                                              std::to_string(id_space_) + ")");
}

}  // namespace rudder

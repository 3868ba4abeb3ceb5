// Base of policies that keep the cached rows in one list and lose its oldest: a derived policy says what
// being requested does to a row's place in it. Owned by the policy's user; not thread-safe.
//
// Invariant: list_ holds exactly the cached rows; one that enters is its newest.
#pragma once

#include <cstddef>

#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {

class ListPolicy : public TwoPhasePolicy {
 public:
  using TwoPhasePolicy::TwoPhasePolicy;

 protected:
  friend TwoPhasePolicy;

  // Makes a cached row the newest.
  void renew(RowKey row) { list_.renew(links_, row); }

 private:
  void reserve_state(std::size_t keys) final { links_.reserve(keys); }
  void offer(RowKey row, NodeId) final {
    if (size() == capacity()) evict_one();
    enter(row);
    list_.push(links_, row);
  }
  void evict_one() final {
    const RowKey victim = list_.oldest();
    forget(victim);
    leave(victim);
  }
  void forget(RowKey row) final { list_.remove(links_, row); }

  RowLinks links_;
  RowList list_;
};

}  // namespace rudder

#include "policy/lru.h"

#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// Invariant: order_ holds exactly the cached rows, from the latest requested to the longest not requested.
class Lru final : public TwoPhasePolicy {
 public:
  using TwoPhasePolicy::TwoPhasePolicy;
  std::string_view name() const override { return "lru"; }

 private:
  void reserve_state(std::size_t keys) override { links_.reserve(keys); }
  void touch(RowKey row) override { order_.renew(links_, row); }
  void offer(RowKey row, NodeId) override {
    if (size() == capacity()) evict_one();
    enter(row);
    order_.push(links_, row);
  }
  void evict_one() override {
    const RowKey victim = order_.oldest();
    forget(victim);
    leave(victim);
  }
  void forget(RowKey row) override { order_.remove(links_, row); }

  RowLinks links_;
  RowList order_;
};

}  // namespace

std::unique_ptr<Policy> make_lru(const PolicyConfig& config) {
  return std::make_unique<Lru>(config.capacity);
}

}  // namespace rudder

#include "policy/fifo.h"

#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// Invariant: queue_ holds exactly the cached rows, from the latest entered to the first.
class Fifo final : public TwoPhasePolicy {
 public:
  using TwoPhasePolicy::TwoPhasePolicy;
  std::string_view name() const override { return "fifo"; }

 private:
  void reserve_state(std::size_t keys) override { links_.reserve(keys); }
  void touch(RowKey) override {}
  void offer(RowKey row, NodeId) override {
    if (size() == capacity()) evict_one();
    enter(row);
    queue_.push(links_, row);
  }
  void evict_one() override {
    const RowKey victim = queue_.oldest();
    forget(victim);
    leave(victim);
  }
  void forget(RowKey row) override { queue_.remove(links_, row); }

  RowLinks links_;
  RowList queue_;
};

}  // namespace

std::unique_ptr<Policy> make_fifo(const PolicyConfig& config) {
  return std::make_unique<Fifo>(config.capacity);
}

}  // namespace rudder

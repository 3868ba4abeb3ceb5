#include "policy/lfu.h"

#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// Invariants:
//   - a cached row is in lists_[count_[row]], from the latest requested to the longest not requested;
//   - no list below least_ has a row.
class Lfu final : public TwoPhasePolicy {
 public:
  using TwoPhasePolicy::TwoPhasePolicy;
  std::string_view name() const override { return "lfu"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Lfu>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

 private:
  friend TwoPhasePolicy;

  void reserve_state(std::size_t keys) override {
    links_.reserve(keys);
    count_.resize(keys);
  }
  void touch(RowKey row) override {
    forget(row);
    file(row, count_[row] + 1);
  }
  void offer(RowKey row, NodeId) override {
    if (size() == capacity()) evict_one();
    enter(row);
    file(row, 1);
    least_ = 1;
  }
  void evict_one() override {
    // A touch raises the least count by one at most, so between insertions this moves as far as touches did;
    // only erase() and a shrinking capacity can leave a longer gap.
    while (lists_[least_].empty()) ++least_;
    const RowKey victim = lists_[least_].oldest();
    forget(victim);
    leave(victim);
  }
  void forget(RowKey row) override { lists_[count_[row]].remove(links_, row); }

  void file(RowKey row, std::uint32_t count) {
    if (count >= lists_.size()) lists_.resize(count + 1);
    count_[row] = count;
    lists_[count].push(links_, row);
  }

  RowLinks links_;
  std::vector<std::uint32_t> count_;
  std::vector<RowList> lists_ = std::vector<RowList>(2);  // by count; the list of count 0 stays empty
  std::uint32_t least_ = 1;
};

}  // namespace

std::unique_ptr<Policy> make_lfu(const PolicyConfig& config) {
  return std::make_unique<Lfu>(config.capacity);
}

}  // namespace rudder

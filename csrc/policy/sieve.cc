#include "policy/sieve.h"

#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// Invariants:
//   - queue_ holds exactly the cached rows, from the latest entered to the first;
//   - hand_ is a row of the queue, or kNoRow: the next walk begins at the oldest.
class Sieve final : public TwoPhasePolicy {
 public:
  using TwoPhasePolicy::TwoPhasePolicy;
  std::string_view name() const override { return "sieve"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Sieve>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

 private:
  friend TwoPhasePolicy;

  void reserve_state(std::size_t keys) override {
    links_.reserve(keys);
    marked_.resize(keys);
  }
  void touch(RowKey row) override { marked_[row] = 1; }
  void offer(RowKey row, NodeId) override {
    if (size() == capacity()) evict_one();
    enter(row);
    marked_[row] = 0;
    queue_.push(links_, row);
  }
  void evict_one() override {
    RowKey row = hand_ == kNoRow ? queue_.oldest() : hand_;
    while (marked_[row] != 0) {
      marked_[row] = 0;
      row = RowList::newer(links_, row);
      if (row == kNoRow) row = queue_.oldest();
    }
    hand_ = row;
    forget(row);  // moves the hand on
    leave(row);
  }
  void forget(RowKey row) override {
    if (hand_ == row) hand_ = RowList::newer(links_, row);
    queue_.remove(links_, row);
  }

  RowLinks links_;
  RowList queue_;
  std::vector<std::uint8_t> marked_;
  RowKey hand_ = kNoRow;
};

}  // namespace

std::unique_ptr<Policy> make_sieve(const PolicyConfig& config) {
  return std::make_unique<Sieve>(config.capacity);
}

}  // namespace rudder

#include "policy/s3fifo.h"

#include <algorithm>

#include "policy/ghost.h"
#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// The paper's settings. A larger small queue keeps one-hit rows longer; a smaller one judges rows too early.
constexpr std::size_t kSmallShare = 10;  // one part in ten
constexpr std::uint8_t kMaxCount = 3;    // two bits: rounds that a popular row gets in the main queue
constexpr std::uint8_t kPromote = 2;     // requests in the small queue that earn a place in the main one

// Invariants:
//   - a cached row is in exactly one of small_ and main_, as in_main_ says;
//   - ghost_ holds ids of rows that left through the end of the small queue, and no cached row's id.
class S3Fifo final : public TwoPhasePolicy {
 public:
  explicit S3Fifo(std::size_t capacity) : TwoPhasePolicy(capacity), ghost_(0) { resized(); }
  std::string_view name() const override { return "s3fifo"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<S3Fifo>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

 private:
  friend TwoPhasePolicy;

  void reserve_state(std::size_t keys) override {
    links_.reserve(keys);
    count_.resize(keys);
    in_main_.resize(keys);
    id_.resize(keys);
  }
  void resized() override {
    small_capacity_ = std::max<std::size_t>(1, capacity() / kSmallShare);
    ghost_.set_capacity(capacity() - std::min(capacity(), small_capacity_));
  }
  void touch(RowKey row) override { count_[row] = std::min<std::uint8_t>(kMaxCount, count_[row] + 1); }
  void offer(RowKey row, NodeId id) override {
    const bool known = ghost_.take(id);
    while (size() >= capacity()) evict_one();
    enter(row);
    count_[row] = 0;
    id_[row] = id;
    in_main_[row] = known;
    (known ? main_ : small_).push(links_, row);
  }
  void evict_one() override {
    while (small_.size() >= small_capacity_ || main_.empty()) {
      const RowKey row = small_.oldest();
      small_.remove(links_, row);
      if (count_[row] >= kPromote) {
        count_[row] = 0;
        in_main_[row] = 1;
        main_.push(links_, row);
        continue;
      }
      ghost_.remember(id_[row]);
      leave(row);
      return;
    }
    while (count_[main_.oldest()] > 0) {
      --count_[main_.oldest()];
      main_.renew(links_, main_.oldest());
    }
    const RowKey row = main_.oldest();
    main_.remove(links_, row);
    leave(row);
  }
  void forget(RowKey row) override { (in_main_[row] != 0 ? main_ : small_).remove(links_, row); }

  std::size_t small_capacity_ = 1;
  RowLinks links_;
  RowList small_, main_;
  std::vector<std::uint8_t> count_, in_main_;
  std::vector<NodeId> id_;
  Ghost ghost_;
};

}  // namespace

std::unique_ptr<Policy> make_s3fifo(const PolicyConfig& config) {
  return std::make_unique<S3Fifo>(config.capacity);
}

}  // namespace rudder

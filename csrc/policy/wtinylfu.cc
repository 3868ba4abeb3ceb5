#include "policy/wtinylfu.h"

#include <algorithm>
#include <array>

#include "policy/frequency_sketch.h"
#include "policy/row_list.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// The paper's settings for workloads ruled by frequency. A larger window favours bursts.
constexpr std::size_t kWindowShare = 100;      // one part in a hundred
constexpr std::size_t kProtectedPercent = 80;  // of the main part

// Invariants:
//   - a cached row is in exactly the list that segment_ names, from the latest requested to the longest not
//   requested;
//   - the window and the protected segment never exceed their share; probation takes what is left.
class WTinyLfu final : public TwoPhasePolicy {
 public:
  explicit WTinyLfu(std::size_t capacity) : TwoPhasePolicy(capacity), sketch_(capacity) { share_out(); }
  std::string_view name() const override { return "wtinylfu"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<WTinyLfu>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

 private:
  friend TwoPhasePolicy;

  enum Segment : std::uint8_t { kWindow, kProbation, kProtected };

  void reserve_state(std::size_t keys) override {
    links_.reserve(keys);
    id_.resize(keys);
    segment_.resize(keys);
  }
  void resized() override {
    share_out();
    sketch_ = FrequencySketch(capacity());
    while (list(kProtected).size() > protected_capacity_) move(list(kProtected).oldest(), kProbation);
    while (list(kWindow).size() > window_capacity_) move(list(kWindow).oldest(), kProbation);
  }
  void touch(RowKey row) override {
    sketch_.add(id_[row]);
    if (segment_[row] != kProbation) {
      list(segment_[row]).renew(links_, row);
      return;
    }
    move(row, kProtected);
    if (list(kProtected).size() > protected_capacity_) move(list(kProtected).oldest(), kProbation);
  }
  void offer(RowKey row, NodeId id) override {
    sketch_.add(id);
    id_[row] = id;
    segment_[row] = kWindow;
    enter(row);
    list(kWindow).push(links_, row);
    RowKey candidate = kNoRow;  // for the main part
    if (list(kWindow).size() > window_capacity_) {
      candidate = list(kWindow).oldest();
      move(candidate, kProbation);
    }
    if (size() <= capacity()) return;
    const RowKey victim = main_victim();
    const bool admit = candidate == kNoRow || sketch_.count(id_[candidate]) > sketch_.count(id_[victim]);
    drop(admit ? victim : candidate);
  }
  void evict_one() override { drop(main_victim()); }
  void forget(RowKey row) override { list(segment_[row]).remove(links_, row); }

  void share_out() {
    window_capacity_ = std::min(capacity(), std::max<std::size_t>(1, capacity() / kWindowShare));
    protected_capacity_ = (capacity() - window_capacity_) * kProtectedPercent / 100;
  }
  RowList& list(std::uint8_t segment) { return lists_[segment]; }
  void move(RowKey row, Segment to) {
    forget(row);
    segment_[row] = to;
    list(to).push(links_, row);
  }
  RowKey main_victim() {
    for (const Segment segment : {kProbation, kProtected})
      if (!list(segment).empty()) return list(segment).oldest();
    return list(kWindow).oldest();
  }
  void drop(RowKey row) {
    forget(row);
    leave(row);
  }

  RowLinks links_;
  std::array<RowList, 3> lists_;
  std::vector<NodeId> id_;
  std::vector<std::uint8_t> segment_;
  std::size_t window_capacity_ = 0, protected_capacity_ = 0;
  FrequencySketch sketch_;
};

}  // namespace

std::unique_ptr<Policy> make_wtinylfu(const PolicyConfig& config) {
  return std::make_unique<WTinyLfu>(config.capacity);
}

}  // namespace rudder

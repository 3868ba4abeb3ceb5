#include "policy/static.h"

#include <algorithm>
#include <optional>

#include "policy/id_numbers.h"
#include "policy/row_list.h"
#include "policy/top_rows.h"
#include "policy/two_phase.h"

namespace rudder {
namespace {

// A set of ids, fixed once built.
class IdSet {
 public:
  explicit IdSet(std::span<const NodeId> ids) {
    for (const NodeId id : ids) index_.insert(id, 0);
  }
  bool contains(NodeId id) const { return index_.find(id) != kNoRow; }

 private:
  IdIndex index_{std::numeric_limits<std::int64_t>::max(), IdIndex::Kind::kHash};
};

// Invariants:
//   - order_ holds exactly the cached rows, and id_ the id of each;
//   - with a set_ and not stale_, every cached row is in it, so the capacity is never exceeded;
//   - counts_ exists only while requests are counted, and then there is no set_.
class Static final : public TwoPhasePolicy {
 public:
  explicit Static(const PolicyConfig& config)
      : TwoPhasePolicy(config.capacity),
        name_(config.name),
        prior_(config.prior),
        prefill_(config.prefill),
        observe_(config.observe) {
    if (!prior_ && name_ == "static-frequency") counts_.emplace();
    choose();
  }

  std::string_view name() const override { return name_; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Static>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

  void set_prior(std::shared_ptr<const Prior> prior, std::span<const NodeId>) override {
    prior_ = std::move(prior);
    counted_.clear();
    counts_.reset();
    choose();
  }

  void observe(std::uint64_t minibatches) override {
    observe_ = minibatches;
    end_count_when_due();
  }

  void adopt(RowKey row, NodeId id) override {
    enter_adopted(row);
    keep(row, id);
  }

 private:
  friend TwoPhasePolicy;

  void reserve_state(std::size_t keys) override {
    links_.reserve(keys);
    id_.resize(keys);
  }
  void touch(RowKey row) override {
    if (counts_) ++(*counts_)[id_[row]];
  }
  void before_offers() override {
    if (stale_) sweep();
  }
  void offer(RowKey row, NodeId id) override {
    if (counts_) ++(*counts_)[id];
    if (size() == capacity() || (set_ && !set_->contains(id))) return;
    enter(row);
    keep(row, id);
  }
  void finish(const Step& step, Outcome& out) override {
    if (prefill_) prefill(out);
    if (step.rows.empty()) return;
    ++observed_;
    end_count_when_due();
  }
  void end_count_when_due() {
    if (!counts_ || observe_ == 0 || observed_ < observe_) return;
    counted_.assign(counts_->entries().begin(), counts_->entries().end());
    counts_.reset();
    choose();
  }
  void evict_one() override { drop(order_.newest()); }
  void forget(RowKey row) override { order_.remove(links_, row); }
  void resized() override {
    choose();
    sweep();
  }

  void keep(RowKey row, NodeId id) {
    id_[row] = id;
    order_.push(links_, row);
  }
  void drop(RowKey row) {
    forget(row);
    leave(row);
  }
  void prefill(Outcome& out) {
    prefill_ = false;
    if (!prior_) return;
    std::vector<NodeId> here;
    for (RowKey row = order_.oldest(); row != kNoRow; row = RowList::newer(links_, row))
      here.push_back(id_[row]);
    const IdSet cached_ids(here);
    for (const NodeId id : top_rows(*prior_, capacity(), true))
      if (!cached_ids.contains(id)) out.replacements.push_back(id);
  }
  // Builds the set anew; rows that are no longer in it leave at the next chance.
  void choose() {
    set_.reset();
    if (prior_) {
      set_.emplace(top_rows(*prior_, capacity(), false));
    } else if (!counted_.empty()) {
      const std::size_t rows = std::min(capacity(), counted_.size());
      const auto better = [](const Count& a, const Count& b) {
        return a.number != b.number ? a.number > b.number : a.id < b.id;
      };
      std::nth_element(counted_.begin(), counted_.begin() + static_cast<std::ptrdiff_t>(rows), counted_.end(),
                       better);
      std::vector<NodeId> ids(rows);
      std::transform(counted_.begin(), counted_.begin() + static_cast<std::ptrdiff_t>(rows), ids.begin(),
                     [](const Count& count) { return count.id; });
      set_.emplace(ids);
    }
    stale_ = set_.has_value();
  }
  void sweep() {
    stale_ = false;
    if (!set_) return;
    for (RowKey row = order_.oldest(); row != kNoRow;) {
      const RowKey next = RowList::newer(links_, row);
      if (!set_->contains(id_[row])) drop(row);
      row = next;
    }
  }

  using Count = IdNumbers<std::uint32_t>::Entry;

  std::string name_;
  std::shared_ptr<const Prior> prior_;
  bool prefill_;
  std::uint64_t observe_, observed_ = 0;
  std::optional<IdNumbers<std::uint32_t>> counts_;  // being counted
  std::vector<Count> counted_;                      // the finished count, for other capacities
  std::optional<IdSet> set_;
  bool stale_ = false;
  RowLinks links_;
  RowList order_;
  std::vector<NodeId> id_;
};

}  // namespace

std::unique_ptr<Policy> make_static(const PolicyConfig& config) { return std::make_unique<Static>(config); }

}  // namespace rudder

#include "policy/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "policy/id_numbers.h"
#include "policy/top_rows.h"

namespace rudder {
namespace {

// The published default, which sets the threshold where replacements come on demand.
constexpr std::uint32_t kPeriodOnDemand = 25;
constexpr NodeId kEmpty{std::numeric_limits<std::int64_t>::max()};  // ids sort before empty slots
constexpr std::uint32_t kNoPlace = std::numeric_limits<std::uint32_t>::max();

// Invariants:
//   - slot_of_[row] is kNoPlace unless the row is cached, and then slots_[slot_of_[row]].row is the row;
//   - a slot with an id but no row waits for adopt(), in the order of awaited_; that state ends with the
//   step;
//   - outside_ holds no id that is in a slot.
class Score final : public Policy {
 public:
  explicit Score(const PolicyConfig& config)
      : prior_(config.prior),
        prefill_(config.prefill),
        period_(config.period),
        allowed_(config.period > 0),
        keep_(static_cast<float>(1.0 - config.alpha)),
        threshold_(threshold(config)),
        slots_(config.capacity) {}

  std::string_view name() const override { return "score"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Score>(*this); }
  void reserve(std::size_t keys) override {
    if (keys > slot_of_.size()) slot_of_.resize(keys, kNoPlace);
  }
  bool cached(RowKey row) const override { return row < slot_of_.size() && slot_of_[row] != kNoPlace; }
  std::size_t size() const override { return size_; }
  std::size_t capacity() const override { return slots_.size(); }
  void allow_replacement(bool allow) override { allowed_ = allow; }
  void limit_replacement(std::uint32_t percent) override { percent_ = percent; }
  void set_prior(std::shared_ptr<const Prior> prior, std::span<const NodeId>) override {
    prior_ = std::move(prior);
  }

  void execute(const Step& step, Outcome& out) override {
    out.reset(step.rows.size());
    awaited_.clear();
    if (!step.rows.empty()) {
      for (Slot& slot : slots_) slot.score *= keep_;
      for (std::size_t i = 0; i < step.rows.size(); ++i) {
        if (!cached(step.rows[i])) continue;
        out.hit[i] = 1;
        slots_[slot_of_[step.rows[i]]].score /= keep_;
      }
      ++executed_;
      if (prefill_ || !due() || !replace(out)) count_misses(step, out);
    }
    if (prefill_) prefill(out);
  }

  void adopt(RowKey row, NodeId) override {
    const std::uint32_t at = awaited_[adopted_++];
    slots_[at].row = row;
    slot_of_[row] = at;
    ++size_;
  }

  void erase(RowKey row) override {
    // A score of 0: the slot is the next to be filled.
    slots_[slot_of_[row]] = Slot{.score = 0};
    slot_of_[row] = kNoPlace;
    --size_;
  }

  void set_capacity(std::size_t rows, std::vector<RowKey>& evicted) override {
    if (rows < slots_.size()) {
      // The lowest scores leave, empty slots first.
      std::sort(slots_.begin(), slots_.end(), [](const Slot& a, const Slot& b) {
        const bool a_empty = a.row == kNoRow, b_empty = b.row == kNoRow;
        if (a_empty != b_empty) return b_empty;
        return a.score != b.score ? a.score > b.score : a.id < b.id;
      });
      for (std::size_t at = rows; at < slots_.size(); ++at) vacate(slots_[at], evicted);
    }
    slots_.resize(rows);
    for (std::uint32_t at = 0; at < rows; ++at)
      if (slots_[at].row != kNoRow) slot_of_[slots_[at].row] = at;
  }

 private:
  struct Slot {
    NodeId id = kEmpty;
    RowKey row = kNoRow;
    float score = 1;
  };
  using Outside = IdNumbers<float>::Entry;

  static float threshold(const PolicyConfig& config) {
    const std::uint32_t period = config.period > 0 ? config.period : kPeriodOnDemand;
    return static_cast<float>(std::round(std::pow(1.0 - config.alpha, period) * 1000.0) / 1000.0);
  }

  bool due() {
    if (period_ > 0) return allowed_ && executed_ % period_ == 0;
    return std::exchange(allowed_, false);
  }

  bool candidate(NodeId id) const { return !prior_ || prior_->level(id) > 0; }

  void count_misses(const Step& step, const Outcome& out) {
    for (std::size_t i = 0; i < step.rows.size(); ++i)
      if (out.hit[i] == 0 && candidate(step.ids[i])) outside_[step.ids[i]] += 1;
  }

  // Empties the slot of a row that leaves.
  void vacate(Slot& slot, std::vector<RowKey>& evicted) {
    if (slot.row == kNoRow) return;
    evicted.push_back(slot.row);
    slot_of_[slot.row] = kNoPlace;
    if (slot.score > 0 && candidate(slot.id)) outside_[slot.id] = slot.score;
    --size_;
    slot = Slot{};
  }

  // False where nothing could be replaced.
  bool replace(Outcome& out) {
    std::vector<std::uint32_t> stale;
    for (std::uint32_t at = 0; at < slots_.size(); ++at)
      if (slots_[at].score < threshold_) stale.push_back(at);
    if (stale.empty()) return false;
    std::vector<Outside> best(outside_.entries().begin(), outside_.entries().end());
    const std::size_t limit = std::max<std::size_t>(1, slots_.size() * percent_ / 100);
    const std::size_t count = std::min({stale.size(), best.size(), limit});
    if (count == 0) return false;
    if (count == limit && count < stale.size()) {
      std::nth_element(stale.begin(), stale.begin() + static_cast<std::ptrdiff_t>(count), stale.end(),
                       [&](std::uint32_t a, std::uint32_t b) {
                         const Slot &one = slots_[a], &other = slots_[b];
                         return one.score != other.score ? one.score < other.score : one.id < other.id;
                       });
      stale.resize(count);
    }
    const auto cut = static_cast<std::ptrdiff_t>(count);
    const auto better = [](const Outside& a, const Outside& b) {
      return a.number != b.number ? a.number > b.number : a.id < b.id;
    };
    std::nth_element(best.begin(), best.begin() + cut, best.end(), better);
    std::sort(best.begin(), best.begin() + cut, better);
    // Slots give way in the order of their ids, as the published code keeps its buffer sorted.
    std::sort(stale.begin(), stale.end(),
              [&](std::uint32_t a, std::uint32_t b) { return slots_[a].id < slots_[b].id; });
    for (std::size_t i = 0; i < count; ++i) {
      outside_.erase(best[i].id);
      vacate(slots_[stale[i]], out.evicted);
      put(stale[i], best[i].id, best[i].number, out);
    }
    return true;
  }

  void put(std::uint32_t at, NodeId id, float score, Outcome& out) {
    slots_[at] = Slot{.id = id, .score = score};
    if (awaited_.empty()) adopted_ = 0;
    awaited_.push_back(at);
    out.replacements.push_back(id);
  }

  void prefill(Outcome& out) {
    prefill_ = false;
    if (!prior_) return;
    std::uint32_t at = 0;
    for (const NodeId id : top_rows(*prior_, slots_.size(), true)) {
      outside_.erase(id);
      put(at++, id, 1, out);
    }
  }

  std::shared_ptr<const Prior> prior_;
  bool prefill_;
  std::uint32_t period_;
  bool allowed_;
  std::uint32_t percent_ = 100;  // of the slots, that one replacement may exchange
  float keep_;                   // what a slot's score is multiplied by
  float threshold_;
  std::uint64_t executed_ = 0;
  std::size_t size_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> slot_of_;
  IdNumbers<float> outside_;
  std::vector<std::uint32_t> awaited_;  // slots of out.replacements
  std::size_t adopted_ = 0;             // how many of them have their row
};

}  // namespace

std::unique_ptr<Policy> make_score(const PolicyConfig& config) { return std::make_unique<Score>(config); }

}  // namespace rudder

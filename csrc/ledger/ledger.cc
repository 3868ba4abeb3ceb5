#include "ledger/ledger.h"

#include <algorithm>
#include <utility>

namespace rudder {
namespace {

constexpr std::size_t kFirstKeys = 1024;
constexpr std::size_t kPrefetchAhead = 12;

}  // namespace

Ledger::Ledger(const LedgerConfig& config)
    : policy_config_(config.policy),
      index_(config.id_space),
      policy_(make_policy(config.policy)),
      depth_(config.depth) {}

RowKey Ledger::track(NodeId id) {
  if (free_.empty()) {
    const std::size_t old = rows_.size();
    const std::size_t grown = std::max(kFirstKeys, old * 2);
    rows_.resize(grown);
    window_.reserve(grown);
    policy_->reserve(grown);
    if (tier_) tier_->reserve(grown);
    free_.reserve(grown);
    for (std::size_t key = grown; key-- > old;) free_.push_back(static_cast<RowKey>(key));
  }
  const RowKey row = free_.back();
  free_.pop_back();
  rows_[row] = Row{.id = id, .tracked = true};
  index_.insert(id, row);
  return row;
}

void Ledger::forget_if_unused(RowKey row) {
  Row& entry = rows_[row];
  if (!entry.tracked || entry.staged || window_.needed(row) || policy_->cached(row)) return;
  entry.tracked = false;
  index_.erase(entry.id);
  free_.push_back(row);
}

void Ledger::release_last() {
  for (const RowKey row : to_release_) forget_if_unused(row);
  to_release_.clear();
  outcome_.evicted.clear();
  raised_.clear();
  lowered_.clear();
}

void Ledger::unstage_before(Seq seq) {
  while (!staged_.empty() && staged_.front().seq < seq) {
    for (const RowKey row : staged_.front().rows) {
      Row& entry = rows_[row];
      if (!entry.staged || entry.staged_by != staged_.front().seq) continue;
      entry.staged = false;
      forget_if_unused(row);
    }
    staged_.pop_front();
  }
  staged_from_ = std::max(staged_from_, seq);
}

void Ledger::unstage(Seq upto) {
  release_last();
  unstage_before(std::min(upto + 1, window_.begin()));  // who skips minibatches may be ahead of the ledger
}

Seq Ledger::foresee(std::span<const NodeId> ids, std::span<std::uint32_t> places) {
  release_last();
  const std::size_t n = ids.size();
  keys_.resize(n);
  index_.find(ids, keys_);
  window_.open();
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kPrefetchAhead < n && keys_[i + kPrefetchAhead] != kNoRow)
      window_.prefetch(keys_[i + kPrefetchAhead]);
    RowKey row = keys_[i];
    if (row == kNoRow) {
      row = index_.find(ids[i]);  // a repeated id may have been tracked meanwhile
      if (row == kNoRow) row = track(ids[i]);
    }
    const std::uint32_t place = window_.add(row);
    if (!places.empty()) places[i] = place;
  }
  const Seq seq = window_.commit();
  policy_->foresee(window_.first_needed(), seq);
  if (tier_) tier_->foresee(window_.first_needed(), seq);
  return seq;
}

const Verdict& Ledger::execute() {
  release_last();
  // Before the minibatch leaves the window: a staged row that it needs must not be forgotten.
  const Seq seq = window_.begin();
  unstage_before(seq > depth_ ? seq - depth_ : 0);
  window_.pop(current_);
  return execute_current(true);
}

const Verdict& Ledger::execute_now(std::span<const NodeId> ids, std::span<std::uint32_t> places) {
  release_last();
  current_.seq = window_.begin() - 1;
  current_.rows.clear();
  current_.next_use.clear();
  if (ids.size() == 1) {  // traces without minibatches: nothing can be repeated, nor asked for ahead
    RowKey row = index_.find(ids[0]);
    if (row == kNoRow) row = track(ids[0]);
    current_.rows.push_back(row);
    current_.next_use.push_back(window_.first(row));
    if (!places.empty()) places[0] = 0;
    return execute_current(false);
  }
  keys_.resize(ids.size());
  index_.find(ids, keys_);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    RowKey row = keys_[i];
    if (row == kNoRow) {
      row = index_.find(ids[i]);
      if (row == kNoRow) row = track(ids[i]);
    }
    std::uint32_t& place = rows_[row].place;
    if (place == kNowhere) {
      place = static_cast<std::uint32_t>(current_.rows.size());
      current_.rows.push_back(row);
      current_.next_use.push_back(window_.first(row));
    }
    if (!places.empty()) places[i] = place;
  }
  for (const RowKey row : current_.rows) rows_[row].place = kNowhere;
  return execute_current(false);
}

const Verdict& Ledger::execute_current(bool foreseen) {
  const std::size_t n = current_.rows.size();
  ids_.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kPrefetchAhead < n) __builtin_prefetch(&rows_[current_.rows[i + kPrefetchAhead]]);
    ids_[i] = rows_[current_.rows[i]].id;
  }
  policy_->execute(Step{current_.seq, current_.rows, ids_, current_.next_use}, outcome_);

  const bool stages = foreseen && depth_ > 0;
  how_.resize(n);
  std::size_t hits = 0, merged = 0, misses = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (outcome_.hit[i]) {
      how_[i] = Verdict::How::kHit;
      ++hits;
      continue;
    }
    const RowKey row = current_.rows[i];
    Row& entry = rows_[row];
    if (entry.staged) {
      how_[i] = Verdict::How::kMerged;
      ++merged;
    } else {
      how_[i] = Verdict::How::kMiss;
      ++misses;
      if (stages) {
        entry.staged = true;
        entry.staged_by = current_.seq;
        staging_.push_back(row);
      }
    }
    if (!outcome_.keep[i] && !entry.staged) to_release_.push_back(row);
  }
  if (!staging_.empty()) staged_.push_back({current_.seq, std::exchange(staging_, {})});
  for (const RowKey row : outcome_.evicted) to_release_.push_back(row);

  replaced_.clear();
  for (const NodeId id : outcome_.replacements) {
    RowKey row = index_.find(id);
    if (row == kNoRow) row = track(id);
    rows_[row].staged = false;
    policy_->adopt(row, id);
    replaced_.push_back(row);
  }
  if (tier_) execute_tier();

  verdict_.seq = current_.seq;
  verdict_.rows = current_.rows;
  verdict_.ids = ids_;
  verdict_.how = how_;
  verdict_.keep = outcome_.keep;
  verdict_.evicted = outcome_.evicted;
  verdict_.replaced = replaced_;
  verdict_.replaced_ids = outcome_.replacements;
  verdict_.raised = raised_;
  verdict_.lowered = lowered_;
  verdict_.hits = hits;
  verdict_.merged = merged;
  verdict_.misses = misses;
  return verdict_;
}

void Ledger::drop_pending() {
  release_last();
  window_.clear([this](RowKey row) { to_release_.push_back(row); });
  policy_->forget_window();
  if (tier_) tier_->forget_window();
  release_last();
}

RowKey Ledger::invalidate(NodeId id) {
  release_last();
  const RowKey row = index_.find(id);
  if (row == kNoRow) return kNoRow;
  rows_[row].staged = false;
  to_release_.push_back(row);
  if (!policy_->cached(row)) return kNoRow;
  policy_->erase(row);
  leave_tier({&row, 1});
  return row;
}

// The tier sees what the buffer sees, and then gives up whatever the buffer does not hold.
void Ledger::execute_tier() {
  tier_->execute(Step{current_.seq, current_.rows, ids_, current_.next_use}, tier_outcome_);
  for (std::size_t i = 0; i < current_.rows.size(); ++i) {
    const RowKey row = current_.rows[i];
    if (!tier_outcome_.keep[i]) continue;
    if (policy_->cached(row))
      raised_.push_back(row);
    else
      tier_->erase(row);
  }
  leave_tier(outcome_.evicted);
  for (const RowKey row : tier_outcome_.evicted)
    if (policy_->cached(row)) lowered_.push_back(row);
  for (const NodeId id : tier_outcome_.replacements) {
    // Each must be adopted, in order; what the buffer does not hold goes again at once.
    RowKey row = index_.find(id);
    if (row == kNoRow) row = track(id);
    tier_->adopt(row, id);
    if (policy_->cached(row)) {
      raised_.push_back(row);
    } else {
      tier_->erase(row);
      to_release_.push_back(row);
    }
  }
}

void Ledger::leave_tier(std::span<const RowKey> gone) {
  if (!tier_) return;
  for (const RowKey row : gone)
    if (tier_->cached(row)) tier_->erase(row);
}

void Ledger::set_tier(std::size_t rows) {
  release_last();
  if (tier_) {
    tier_->set_capacity(rows, lowered_);
  } else if (rows > 0) {
    PolicyConfig config = policy_config_;
    config.capacity = rows;
    config.prefill = false;  // rows come up from the buffer, as they are requested
    tier_ = OwnPolicy(make_policy(config));
    tier_->reserve(rows_.size());
  }
}

void Ledger::allow_replacement(bool allow) {
  policy_->allow_replacement(allow);
  if (tier_) tier_->allow_replacement(allow);
}

void Ledger::limit_replacement(std::uint32_t percent) {
  policy_->limit_replacement(percent);
  if (tier_) tier_->limit_replacement(percent);
}

void Ledger::observe(std::uint64_t minibatches) {
  policy_->observe(minibatches);
  if (tier_) tier_->observe(minibatches);
}

void Ledger::set_capacity(std::size_t rows) {
  release_last();
  policy_->set_capacity(rows, outcome_.evicted);
  leave_tier(outcome_.evicted);
  to_release_.insert(to_release_.end(), outcome_.evicted.begin(), outcome_.evicted.end());
}

void Ledger::set_prior(std::shared_ptr<const Prior> prior) {
  release_last();
  ids_.resize(rows_.size());
  for (std::size_t row = 0; row < rows_.size(); ++row) ids_[row] = rows_[row].id;
  if (tier_) tier_->set_prior(prior, ids_);
  policy_config_.prior = prior;
  policy_->set_prior(std::move(prior), ids_);
}

std::vector<NodeId> Ledger::tracked_ids() const {
  std::vector<NodeId> ids;
  ids.reserve(index_.size());
  for (const Row& row : rows_)
    if (row.tracked) ids.push_back(row.id);
  return ids;
}

std::size_t Ledger::bytes() const {
  return index_.bytes() + window_.bytes() + rows_.capacity() * sizeof(Row) +
         free_.capacity() * sizeof(RowKey);
}

}  // namespace rudder

// What stands in for the ledger in tests of policies: hands out recycled keys, keeps a window, and checks
// what policy.h ENSURES after every call against a model that is a plain set of ids.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "policy/policy.h"

namespace rudder::testing {

class PolicyHarness {
 public:
  explicit PolicyHarness(const PolicyConfig& config)
      : policy_(make_policy(config)), may_replace_(config.name == "score" || config.prefill) {}

  // Same state, with a clone of the policy.
  PolicyHarness(const PolicyHarness&) = default;

  Policy& policy() { return *policy_; }
  const std::set<std::int64_t>& cached() const { return cached_; }
  bool is_cached(std::int64_t id) const { return cached_.contains(id); }
  std::size_t missed() const { return missed_; }
  std::size_t replaced() const { return replaced_; }
  std::size_t requested() const { return requested_; }

  // Appends a minibatch of distinct ids to the window.
  void foresee(const std::vector<std::int64_t>& ids) {
    std::vector<RowKey> first;
    for (const std::int64_t id : ids) {
      const RowKey row = track(id);
      if (uses_[id]++ == 0) first.push_back(row);
    }
    window_.push_back(ids);
    policy_->foresee(first, end_++);
  }

  // Executes the oldest minibatch of the window; returns its ids that were hits.
  std::set<std::int64_t> execute() {
    const std::vector<std::int64_t> ids = window_.front();
    window_.pop_front();
    for (const std::int64_t id : ids) --uses_[id];
    return run(end_ - window_.size() - 1, ids);
  }

  // A minibatch that nothing foresaw, when the window is empty: foreseen and executed at once.
  std::set<std::int64_t> step(const std::vector<std::int64_t>& ids) {
    foresee(ids);
    return execute();
  }

  // A minibatch executed before those of the window.
  std::set<std::int64_t> execute_now(const std::vector<std::int64_t>& ids) {
    for (const std::int64_t id : ids) track(id);
    return run(end_ - window_.size() - 1, ids);
  }

  void forget_window() {
    window_.clear();
    uses_.clear();
    policy_->forget_window();
    release_unused();
    check();
  }

  void erase(std::int64_t id) {
    policy_->erase(keys_.at(id));
    cached_.erase(id);
    release_unused();
    check();
  }

  void set_capacity(std::size_t rows) {
    std::vector<RowKey> evicted;
    policy_->set_capacity(rows, evicted);
    EXPECT_EQ(policy_->capacity(), rows);
    remove(evicted);
    release_unused();
    check();
  }

  void set_prior(std::shared_ptr<const Prior> prior) {
    std::vector<NodeId> ids(next_key_);
    for (const auto& [id, row] : keys_) ids[row] = static_cast<NodeId>(id);
    policy_->set_prior(std::move(prior), ids);
    check();
  }

 private:
  RowKey track(std::int64_t id) {
    const auto [at, fresh] = keys_.try_emplace(id, kNoRow);
    if (!fresh) return at->second;
    if (free_.empty()) {
      free_.push_back(next_key_++);
      policy_->reserve(next_key_);
    }
    at->second = free_.back();
    free_.pop_back();
    return at->second;
  }

  std::set<std::int64_t> run(Seq seq, const std::vector<std::int64_t>& ids) {
    std::vector<RowKey> rows;
    std::vector<NodeId> nodes;
    std::vector<Seq> next_use;
    for (const std::int64_t id : ids) {
      rows.push_back(keys_.at(id));
      nodes.push_back(static_cast<NodeId>(id));
      next_use.push_back(kNoUse);
      for (std::size_t i = window_.size(); i-- > 0;)
        if (std::find(window_[i].begin(), window_[i].end(), id) != window_[i].end())
          next_use.back() = end_ - window_.size() + i;
    }
    policy_->execute(Step{seq, rows, nodes, next_use}, out_);

    EXPECT_EQ(out_.hit.size(), ids.size());
    EXPECT_EQ(out_.keep.size(), ids.size());
    std::set<std::int64_t> hits;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(out_.hit[i] != 0, is_cached(ids[i]))
          << "hits are decided against the buffer before the step; id " << ids[i];
      EXPECT_FALSE(out_.hit[i] != 0 && out_.keep[i] != 0) << "a hit is not kept anew; id " << ids[i];
      if (out_.hit[i] != 0) hits.insert(ids[i]);
    }
    remove(out_.evicted);
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (out_.keep[i] != 0) cached_.insert(ids[i]);
    if (!may_replace_) EXPECT_TRUE(out_.replacements.empty()) << "fetched more than without a buffer";
    EXPECT_LE(cached_.size() + out_.replacements.size(), policy_->capacity());
    for (const NodeId id : out_.replacements) {
      EXPECT_TRUE(cached_.insert(value(id)).second)
          << "replaced by a row that is cached already; id " << value(id);
      policy_->adopt(track(value(id)), id);
    }
    requested_ += ids.size();
    missed_ += ids.size() - hits.size();
    replaced_ += out_.replacements.size();
    release_unused();
    check();
    return hits;
  }

  void remove(const std::vector<RowKey>& evicted) {
    for (const RowKey row : evicted) {
      const auto at =
          std::find_if(keys_.begin(), keys_.end(), [row](const auto& entry) { return entry.second == row; });
      ASSERT_NE(at, keys_.end()) << "evicted the unknown key " << row;
      EXPECT_EQ(cached_.erase(at->first), 1u) << "evicted a row that was not cached before; id " << at->first;
    }
  }

  void release_unused() {
    std::erase_if(keys_, [this](const auto& entry) {
      const auto use = uses_.find(entry.first);
      if (is_cached(entry.first) || (use != uses_.end() && use->second > 0)) return false;
      free_.push_back(entry.second);
      return true;
    });
  }

  void check() {
    EXPECT_EQ(policy_->size(), cached_.size());
    EXPECT_LE(policy_->size(), policy_->capacity());
    for (const auto& [id, row] : keys_) EXPECT_EQ(policy_->cached(row), is_cached(id)) << "id " << id;
    for (const RowKey row : free_) EXPECT_FALSE(policy_->cached(row)) << "free key " << row;
  }

  // Copied with the harness.
  struct OwnPolicy : std::unique_ptr<Policy> {
    explicit OwnPolicy(std::unique_ptr<Policy> policy) : std::unique_ptr<Policy>(std::move(policy)) {}
    OwnPolicy(const OwnPolicy& other) : std::unique_ptr<Policy>(other->clone()) {}
  };

  OwnPolicy policy_;
  bool may_replace_;
  std::map<std::int64_t, RowKey> keys_;  // of tracked ids
  std::vector<RowKey> free_;             // last freed, first used again
  RowKey next_key_ = 0;
  std::set<std::int64_t> cached_;
  std::deque<std::vector<std::int64_t>> window_;
  std::map<std::int64_t, int> uses_;  // in the window
  Seq end_ = 0;
  Outcome out_;
  std::size_t requested_ = 0, missed_ = 0, replaced_ = 0;
};

// Minibatches of up to `rows` distinct ids below `ids`, low ids far more often than high ones.
class Traffic {
 public:
  Traffic(std::uint32_t seed, std::int64_t ids, std::size_t rows) : random_(seed), ids_(ids), rows_(rows) {}

  std::vector<std::int64_t> minibatch() {
    std::vector<std::int64_t> batch;
    for (std::size_t i = up_to(rows_); i-- > 0;) {
      const double skewed = std::pow(std::uniform_real_distribution<double>(0, 1)(random_), 3.0);
      const auto id = static_cast<std::int64_t>(skewed * static_cast<double>(ids_));
      if (std::find(batch.begin(), batch.end(), id) == batch.end()) batch.push_back(id);
    }
    return batch;
  }
  std::size_t up_to(std::size_t most) { return std::uniform_int_distribution<std::size_t>(0, most)(random_); }
  bool one_in(int times) { return std::uniform_int_distribution<int>(1, times)(random_) == 1; }

  // A worth for every id, with ties and zeros.
  std::shared_ptr<const Prior> prior() {
    std::vector<float> worth(static_cast<std::size_t>(ids_));
    for (float& w : worth) w = static_cast<float>(up_to(9));
    return Prior::from_worth(worth);
  }

 private:
  std::mt19937 random_;
  std::int64_t ids_;
  std::size_t rows_;
};

}  // namespace rudder::testing

// The whole contract of a replacement policy: given minibatches in order, decide which rows stay
// in the buffer. A policy sees ids and positions, never bytes or slots, and knows nothing of
// windows, transports or threads. One file per policy; `make_policy` builds one by name.
//
// Thread-safety: none. One thread owns a policy (the ledger's owner).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/prior.h"
#include "common/types.h"

namespace rudder {

// One minibatch as a policy sees it. `rows` are distinct; the three spans run in parallel, in the
// order of the request.
struct Step {
  Seq seq = 0;
  std::span<const RowKey> rows;
  std::span<const NodeId> ids;
  // The next minibatch of the window that uses the same row; kNoUse where there is none.
  std::span<const Seq> next_use;
};

// What a policy answers. Vectors are reused from step to step; the caller clears nothing.
struct Outcome {
  std::vector<std::uint8_t> hit;     // per row of the step: was in the buffer *before* it
  std::vector<std::uint8_t> keep;    // per row: a miss that is in the buffer *after* the step
  std::vector<RowKey> evicted;       // rows that were in the buffer before the step and no longer are
  std::vector<NodeId> replacements;  // rows to fetch for the buffer's sake alone (paper's score policy)

  void reset(std::size_t rows) {
    hit.assign(rows, 0);
    keep.assign(rows, 0);
    evicted.clear();
    replacements.clear();
  }
  // The same, for a policy that writes every hit and keep itself.
  void resize(std::size_t rows) {
    hit.resize(rows);
    keep.resize(rows);
    evicted.clear();
    replacements.clear();
  }
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual std::string_view name() const = 0;

  // A policy in the same state: given the same calls, both answer alike, and neither notices the other's.
  virtual std::unique_ptr<Policy> clone() const = 0;

  // Declares that keys below `keys` may be used from now on. Called before any of them is.
  virtual void reserve(std::size_t keys) = 0;

  // Rows that a minibatch just sampled will need, and that no earlier minibatch of the window
  // needs. Lets a lookahead policy learn that a cached row without a use got one. The spans run
  // in parallel; rows need not be cached.
  virtual void foresee(std::span<const RowKey> rows, Seq use) {
    (void)rows;
    (void)use;
  }

  // The window was emptied without being executed: no row has a known use any more.
  virtual void forget_window() {}

  // Executes one minibatch. Hits are decided against the buffer as it stands before the
  // minibatch: first every hit is touched, in order, then every miss is offered, in order.
  // ENSURES: size() <= capacity(); a row is in at most one of {hit, keep}; a row inserted and evicted
  // in the same step is neither kept nor evicted.
  // Every cached row whose next use was foreseen as step.seq is among step.rows (a step that was never
  // foreseen has a number that no row waits for).
  virtual void execute(const Step& step, Outcome& out) = 0;

  // A row of out.replacements got a key and is being fetched: it is in the buffer from now on. Called for
  // each of them right after execute. REQUIRES room (the policy evicted for it) and !cached(row).
  virtual void adopt(RowKey row, NodeId id) {
    (void)row;
    (void)id;
  }

  // The controller's yes or no to replacements from now on; see PolicyConfig::period. Others ignore it.
  virtual void allow_replacement(bool allow) { (void)allow; }

  // Percent of the buffer that one replacement may exchange from now on, rounded down, but at least one row.
  // Others than score ignore it.
  virtual void limit_replacement(std::uint32_t percent) { (void)percent; }

  // How many minibatches to count in all, in the place of PolicyConfig::observe; where so many were counted
  // already, the count ends now. Others ignore it, and so does a count that has ended.
  virtual void observe(std::uint64_t minibatches) { (void)minibatches; }

  // Is the row in the buffer?
  virtual bool cached(RowKey row) const = 0;

  // Drops a cached row (its source was written to). REQUIRES cached(row).
  virtual void erase(RowKey row) = 0;

  // Sets the number of rows that may be cached; appends rows that must leave to `evicted`.
  virtual void set_capacity(std::size_t rows, std::vector<RowKey>& evicted) = 0;

  // Replaces what is known beyond the window; ids[row] is the id of every cached row. Policies without a
  // prior ignore it.
  virtual void set_prior(std::shared_ptr<const Prior> prior, std::span<const NodeId> ids) {
    (void)prior;
    (void)ids;
  }

  virtual std::size_t size() const = 0;
  virtual std::size_t capacity() const = 0;

 protected:
  // Copied by clone() alone: by hand, it would lose what the derived class adds.
  Policy() = default;
  Policy(const Policy&) = default;
  Policy& operator=(const Policy&) = default;
};

struct PolicyConfig {
  std::string name = "lookahead";
  std::size_t capacity = 0;            // rows; 0 means that nothing is kept
  std::shared_ptr<const Prior> prior;  // may be null: every row is worth the same beyond the window

  // static-*, score: the `capacity` rows of highest worth (> 0) are fetched at the first minibatch, as
  // replacements.
  bool prefill = false;
  // static-frequency: minibatches to count before the set is fixed; 0 counts until observe() says how many,
  // or set_prior brings a set.
  std::uint64_t observe = 0;
  // score: replace every `period` minibatches while allowed; 0: once, at the next minibatch, for each
  // "allow".
  std::uint32_t period = 32;
  // score: share of its score that a cached row loses in each minibatch that does not request it.
  double alpha = 0.05;
};

// Throws Error(kConfig) that lists the names for an unknown one.
std::unique_ptr<Policy> make_policy(const PolicyConfig& config);

// Every name that make_policy takes, in the order of the documentation.
std::vector<std::string> policy_names();

// What the policy does, in a line; empty for an unknown name.
std::string_view policy_summary(std::string_view name);

}  // namespace rudder

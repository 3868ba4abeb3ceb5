// The ledger: id index + window + policy. It decides, for each minibatch in order, which rows are hits, which
// must be fetched, which of those stay and which rows leave. It never touches a byte of a row: the prefetcher
// carries out what it says, and replay merely counts it, so both run the same code.
//
// Its answers depend only on the sequence of calls, never on time: a recorded sequence replays to the same
// rows.
//
// A copy of a ledger goes on from the same state, and neither notices what happens to the other.
//
// A row is *tracked* (has a key) while it is requested by the window, cached, or staged; its key is recycled
// after. Thread-safety: none; one thread owns a ledger.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/id_index.h"
#include "common/types.h"
#include "policy/policy.h"
#include "window/window.h"

namespace rudder {

struct LedgerConfig {
  std::int64_t id_space = 0;  // ids lie in [0, id_space)
  PolicyConfig policy;
  // A fetched row can serve this many minibatches after its own, while it is staged: whether it was kept or
  // not, and though it leaves the buffer meanwhile. Hence no policy moves more rows for the minibatches of
  // the window than `none` does, but for replacements: each fetch of a row comes no earlier than the fetch of
  // that number without a buffer.
  std::size_t depth = 0;
};

// What happens to one minibatch. Spans stay valid until the ledger is called again.
struct Verdict {
  // How a row is had.
  enum class How : std::uint8_t { kHit, kMerged, kMiss };

  Seq seq = 0;                   // execute_now shares the number of the minibatch before it
  std::span<const RowKey> rows;  // distinct, in the order of the request
  std::span<const NodeId> ids;   // parallel
  std::span<const How>
      how;  // parallel: in the buffer before / staged by an earlier minibatch / to be fetched
  std::span<const std::uint8_t> keep;  // parallel: a miss or merged row that is in the buffer from now on
  std::span<const RowKey> evicted;     // were in the buffer and no longer are
  std::span<const RowKey> replaced;    // fetched for the buffer's sake alone; in the buffer from now on
  std::span<const NodeId> replaced_ids;
  std::span<const RowKey> raised;                // rows of the buffer that belong in the tier from now on
  std::span<const RowKey> lowered;               // rows that do no more; those of `evicted` are not repeated
  std::size_t hits = 0, merged = 0, misses = 0;  // together: every row
};

class Ledger {
 public:
  // Throws Error(kConfig) for an unknown policy or a negative id space.
  explicit Ledger(const LedgerConfig& config);

  // Appends a minibatch to the window. Repeated ids count once: places[i], where asked for, is the position
  // of ids[i] among the minibatch's distinct rows. REQUIRES ids in [0, id_space); places empty or as long as
  // ids.
  Seq foresee(std::span<const NodeId> ids, std::span<std::uint32_t> places = {});

  // Executes the oldest minibatch of the window. REQUIRES window().minibatches() > 0.
  const Verdict& execute();

  // Executes a minibatch that nobody foresaw, before those of the window. It is not staged for later ones.
  const Verdict& execute_now(std::span<const NodeId> ids, std::span<std::uint32_t> places = {});

  // What executed minibatches up to `upto` staged serves no later one, though the depth would let it.
  void unstage(Seq upto);

  // Empties the window without executing it.
  void drop_pending();

  // The key of a tracked row; kNoRow where it is not tracked.
  RowKey find(NodeId id) const { return index_.find(id); }
  void find(std::span<const NodeId> ids, std::span<RowKey> keys) const { index_.find(ids, keys); }
  bool cached(RowKey row) const { return policy_->cached(row); }
  // Was the row fetched by a minibatch whose rows are still staged?
  bool staged(RowKey row) const { return rows_[row].staged; }
  // The minibatch that staged it last. REQUIRES staged(row).
  Seq staged_by(RowKey row) const { return rows_[row].staged_by; }

  // Drops a row from the buffer and from the staged ones: what is held of it must not be used again.
  // Returns its key where it was cached, else kNoRow.
  RowKey invalidate(NodeId id);

  // Rows that leave are in evicted() until the next call.
  void set_capacity(std::size_t rows);
  std::span<const RowKey> evicted() const { return outcome_.evicted; }
  // The tier: the same policy once more, over the same requests, choosing the best so many rows of the
  // buffer. It changes nothing about the buffer. Rows that leave it are in lowered() until the next call.
  void set_tier(std::size_t rows);
  std::span<const RowKey> lowered() const { return lowered_; }
  std::size_t tier_size() const { return tier_ ? tier_->size() : 0; }
  void set_depth(std::size_t depth) { depth_ = depth; }
  void set_prior(std::shared_ptr<const Prior> prior);
  void allow_replacement(bool allow);
  void limit_replacement(std::uint32_t percent);
  void observe(std::uint64_t minibatches);

  const Window& window() const { return window_; }
  const Policy& policy() const { return *policy_; }
  std::size_t depth() const { return depth_; }
  // Keys lie in [0, keys()); arrays of the caller that are indexed by key must be at least this long.
  std::size_t keys() const { return rows_.size(); }
  std::size_t tracked() const { return index_.size(); }
  std::vector<NodeId> tracked_ids() const;
  // Index, window and policy, without what the policy allocates for itself.
  std::size_t bytes() const;
  // Rows staged by minibatches before this one serve no later minibatch; their bytes may go.
  Seq staged_from() const { return staged_from_; }

 private:
  static constexpr std::uint32_t kNowhere = ~0u;
  struct Row {
    NodeId id{};
    Seq staged_by = 0;
    bool tracked = false;
    bool staged = false;
    std::uint32_t place = kNowhere;  // scratch of execute_now: the row's position in the step
  };
  struct Staged {
    Seq seq;
    std::vector<RowKey> rows;
  };

  // Owns the policy, and is copied with it.
  class OwnPolicy {
   public:
    explicit OwnPolicy(std::unique_ptr<Policy> policy) : policy_(std::move(policy)) {}
    OwnPolicy(const OwnPolicy& other) : policy_(other ? other.policy_->clone() : nullptr) {}
    explicit operator bool() const { return policy_ != nullptr; }
    OwnPolicy& operator=(const OwnPolicy& other) { return *this = OwnPolicy(other); }
    OwnPolicy(OwnPolicy&&) = default;
    OwnPolicy& operator=(OwnPolicy&&) = default;
    ~OwnPolicy() = default;
    Policy* operator->() const { return policy_.get(); }
    Policy& operator*() const { return *policy_; }

   private:
    std::unique_ptr<Policy> policy_;
  };

  RowKey track(NodeId id);
  void forget_if_unused(RowKey row);
  void unstage_before(Seq seq);
  const Verdict& execute_current(bool foreseen);
  void execute_tier();
  void leave_tier(std::span<const RowKey> gone);
  void release_last();

  PolicyConfig policy_config_;  // of a tier to come
  IdIndex index_;
  Window window_;
  OwnPolicy policy_;
  OwnPolicy tier_{nullptr};  // none until one is wanted; every row that it caches is in the buffer
  std::size_t depth_;
  std::vector<Row> rows_;  // by key
  std::vector<RowKey> free_;
  std::deque<Staged> staged_;
  Seq staged_from_ = 1;

  // Scratch, kept between calls; the verdict points into it.
  Window::Minibatch current_;
  std::vector<NodeId> ids_;
  std::vector<RowKey> keys_;
  std::vector<Verdict::How> how_;
  std::vector<RowKey> staging_;  // rows that the minibatch being executed stages
  std::vector<RowKey> replaced_;
  Outcome outcome_;
  Outcome tier_outcome_;
  std::vector<RowKey> raised_, lowered_;
  Verdict verdict_;
  std::vector<RowKey> to_release_;  // rows of the last verdict whose keys may be recycled by the next call
};

}  // namespace rudder

// The lookahead window: minibatches sampled but not yet executed, in order, with next-use links. Every access
// knows the next minibatch of the window that uses the same row; every row knows its first and its last
// pending use.
//
// Invariants:
//   - minibatch numbers are handed out in order and never reused; pending ones are consecutive;
//   - a row is requested at most once by a minibatch;
//   - pending(row) is the number of minibatches of the window that request it; first(row) is kNoUse when it
//   is 0.
// Memory: 8 bytes per request waiting and 16 per tracked row. Thread-safety: none (the ledger's owner).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "common/types.h"

namespace rudder {

class Window {
 public:
  // The oldest minibatch, on its way out.
  struct Minibatch {
    Seq seq = 0;
    std::vector<RowKey> rows;
    std::vector<Seq> next_use;
  };

  void reserve(std::size_t keys) {
    if (keys > uses_.size()) uses_.resize(keys);
  }

  // `open` begins minibatch end(), rows are added to it one by one, `commit` closes it. `add` returns the
  // row's position in the minibatch, the earlier one where it has the row already. REQUIRES row < reserved
  // keys.
  void open() { first_needed_.clear(); }
  std::uint32_t add(RowKey row);
  void prefetch(RowKey row) const { __builtin_prefetch(&uses_[row], 1); }
  // Returns the number of the minibatch; `first_needed` then holds its rows that no earlier minibatch of the
  // window needs.
  Seq commit();
  std::span<const RowKey> first_needed() const { return first_needed_; }

  // Takes the oldest minibatch out. REQUIRES !empty().
  void pop(Minibatch& out);

  // Empties the window; the numbers of its minibatches are not used again. Calls visit(row) once per pending
  // use.
  template <typename Visit>
  void clear(Visit&& visit) {
    for (Pending& batch : pending_)
      for (const RowKey row : batch.rows) {
        uses_[row] = Uses{};
        visit(row);
      }
    pending_.clear();
    rows_ = 0;
  }

  // The first minibatch of the window that uses the row; kNoUse where there is none.
  Seq first(RowKey row) const { return uses_[row].pending == 0 ? kNoUse : expand(uses_[row].first); }
  bool needed(RowKey row) const { return uses_[row].pending != 0; }

  bool empty() const { return pending_.empty(); }
  std::size_t minibatches() const { return pending_.size(); }
  std::size_t rows() const { return rows_; }  // requests waiting, each minibatch's distinct rows summed
  Seq begin() const { return end_ - pending_.size(); }  // number of the oldest minibatch
  Seq end() const { return end_; }                      // number that the next minibatch will get
  std::size_t bytes() const;

 private:
  // Minibatch numbers inside the window are kept as their low 32 bits.
  struct Uses {
    std::uint32_t first = 0, last = 0, last_at = 0, pending = 0;
  };
  struct Pending {
    std::vector<RowKey> rows;
    std::vector<std::uint32_t> ahead;  // minibatches until the next use; 0: none in the window
  };

  // The full number of a pending minibatch (or the one being built) from its low 32 bits.
  Seq expand(std::uint32_t low) const {
    return end_ - static_cast<std::uint32_t>(static_cast<std::uint32_t>(end_) - low);
  }

  std::vector<Uses> uses_;
  std::deque<Pending> pending_;
  Pending building_;
  std::vector<RowKey> first_needed_;
  std::size_t rows_ = 0;
  Seq end_ = 1;
};

}  // namespace rudder

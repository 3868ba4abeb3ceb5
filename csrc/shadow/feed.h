// What minibatches ask for and cost, minibatch by minibatch: the input of modelled time.
// Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "common/types.h"

namespace rudder {

class Feed {
 public:
  struct Minibatch {
    std::vector<NodeId> ids;  // distinct remote rows
    double requests = 0;      // distinct remote rows, all of them: `ids` may be a sample
    double block_bytes = 0;
    // Seconds: of sampling it; of all of the trainer's own time; of one row on the link; of a fetch beside
    // its rows.
    double sampling = 0, compute = 0, row_seconds = 0, latency = 0;
  };

  // Minibatches [first, end).
  std::int64_t first() const { return first_; }
  std::int64_t end() const { return first_ + static_cast<std::int64_t>(kept_.size()); }

  // REQUIRES first() <= minibatch < end().
  const Minibatch& operator[](std::int64_t minibatch) const { return kept_[place(minibatch)].what; }
  // Requests and bytes of blocks of all minibatches before. REQUIRES first() <= minibatch <= end().
  double requests_until(std::int64_t minibatch) const { return before(minibatch).requests; }
  double bytes_until(std::int64_t minibatch) const { return before(minibatch).bytes; }

  void append(Minibatch minibatch);
  // One more minibatch, of which nothing is kept. Throws Error(kState) where something is kept of another.
  void pass_by();
  // What was measured of the minibatches [begin, end). Throws Error(kOutOfRange) for others than are kept,
  // as the next two do.
  void cost(std::int64_t begin, std::int64_t end, double compute, double row_seconds, double latency);
  void cost(std::int64_t begin, std::int64_t end, double row_seconds);
  void renumber(std::int64_t minibatch, std::span<const NodeId> ids);
  // Drops the minibatches before this one.
  void forget(std::int64_t before);
  // Drops the minibatches from this one on; it is the next to be appended.
  void truncate(std::int64_t end);
  // Throws Error(kOutOfRange) where a minibatch of [begin, end) is not kept.
  void check(std::int64_t begin, std::int64_t end) const;

 private:
  struct Sums {
    double requests = 0, bytes = 0;
  };
  struct Kept {
    Minibatch what;
    Sums before;
  };
  std::size_t place(std::int64_t minibatch) const { return static_cast<std::size_t>(minibatch - first_); }
  const Sums& before(std::int64_t minibatch) const {
    return minibatch == end() ? all_ : kept_[place(minibatch)].before;
  }

  std::int64_t first_ = 0;
  std::deque<Kept> kept_;
  Sums all_;
};

}  // namespace rudder

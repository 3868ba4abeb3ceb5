// What no policy can beat on a trace, and two other marks beside it. All exact.
//
// MIN is Belady's offline optimum (IBM Systems Journal 5(2), 1966, doi:10.1147/sj.52.0078) with bypass, by
// the rules that policies play by: hits are decided against the buffer as it stands before the minibatch, the
// minibatch itself is staged outside of the capacity, and each of its rows may stay for free. Keeping a row
// from one use to the next saves one fetch and takes one place in between; the most savings that fit are had
// by letting go, whenever too many rows are kept, of those whose next use is farthest. As only numbers of
// rows are asked for, it is enough to count the kept rows by the minibatch of their next use.
//
// Memory: 4 bytes an access (24 at most while constructed). Time: linear, beyond reading the ids once in
// random order. Thread-safety: const methods may run at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "replay/trace.h"

namespace rudder {

class OfflineOptimum {
 public:
  // Throws Error(kConfig) for 2^32 - 2 accesses or more. The trace must outlive it.
  explicit OfflineOptimum(const Trace& trace);

  // Rows requested: distinct in each minibatch.
  std::uint64_t requested() const { return requested_; }
  // Rows that any buffer moves: distinct in the trace.
  std::uint64_t compulsory() const { return compulsory_; }
  // Rows moved by MIN with a buffer of `capacity` rows.
  std::uint64_t min_rows(std::size_t capacity) const;
  // Rows moved when the `capacity` most requested rows are kept from their first miss on.
  std::uint64_t static_rows(std::size_t capacity) const;

 private:
  void link_by_table();
  void link_by_sorting();
  void count_uses(std::uint32_t uses);

  const Trace& trace_;
  std::vector<std::uint32_t>
      next_use_;  // per access: minibatch of the row's next use, or one of the marks of min.cc
  std::vector<std::uint64_t> rows_by_uses_;  // how many rows were requested by exactly so many minibatches
  std::uint64_t requested_ = 0, compulsory_ = 0;
};

}  // namespace rudder

// Rows of many verdicts, summed up.
#pragma once

#include <cstdint>

#include "ledger/ledger.h"

namespace rudder {

struct Totals {
  std::uint64_t rows_requested = 0;    // distinct rows, each minibatch's summed
  std::uint64_t hits = 0;              // found in the buffer
  std::uint64_t merged = 0;            // found staged
  std::uint64_t rows_moved = 0;        // misses and replacements
  std::uint64_t replacement_rows = 0;  // of which fetched for the buffer's sake alone

  void count(const Verdict& verdict) {
    rows_requested += verdict.hits + verdict.merged + verdict.misses;
    hits += verdict.hits;
    merged += verdict.merged;
    rows_moved += verdict.misses + verdict.replaced.size();
    replacement_rows += verdict.replaced.size();
  }
};

}  // namespace rudder

#include "replay/min.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "common/error.h"

namespace rudder {
namespace {

constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();  // no use follows
constexpr std::uint32_t kRepeat = kNever - 1;  // the minibatch requests the row once more: counts once

// A table over all ids takes two numbers per id; up to here that is at most 16 bytes an access.
constexpr std::size_t kIdsPerAccess = 2;

// Kept rows, counted by the minibatch of their next use.
class KeptRows {
 public:
  explicit KeptRows(std::size_t minibatches) : rows_(minibatches), some_(minibatches / 64 + 1) {}

  std::size_t size() const { return size_; }
  // REQUIRES size() > 0.
  std::size_t farthest() {
    while (some_[word_] == 0) --word_;
    return word_ * 64 + 63 - static_cast<std::size_t>(std::countl_zero(some_[word_]));
  }
  void add(std::size_t use) {
    if (rows_[use]++ == 0) some_[use / 64] |= 1ull << (use % 64);
    word_ = std::max(word_, use / 64);
    ++size_;
  }
  void drop(std::size_t use) {
    if (--rows_[use] == 0) some_[use / 64] &= ~(1ull << (use % 64));
    --size_;
  }
  // Drops all of a minibatch; returns how many there were.
  std::uint32_t take(std::size_t use) {
    some_[use / 64] &= ~(1ull << (use % 64));
    size_ -= rows_[use];
    return std::exchange(rows_[use], 0);
  }

 private:
  std::vector<std::uint32_t> rows_;
  std::vector<std::uint64_t> some_;  // a bit per minibatch: rows_ is not 0
  std::size_t word_ = 0;             // no word of some_ beyond it has a bit
  std::size_t size_ = 0;
};

}  // namespace

OfflineOptimum::OfflineOptimum(const Trace& trace) : trace_(trace), next_use_(trace.accesses(), kNever) {
  if (trace.accesses() >= kRepeat)
    throw Error(ErrorCode::kConfig,
                "the offline optimum takes traces of up to 2^32 - 3 accesses; split the trace");
  if (static_cast<std::uint64_t>(trace.id_space()) <= kIdsPerAccess * trace.accesses() + 1024)
    link_by_table();
  else
    link_by_sorting();
}

void OfflineOptimum::count_uses(std::uint32_t uses) {
  if (uses >= rows_by_uses_.size()) rows_by_uses_.resize(uses + 1);
  ++rows_by_uses_[uses];
  requested_ += uses;
  ++compulsory_;
}

void OfflineOptimum::link_by_table() {
  struct Seen {
    std::uint32_t next = kNever, uses = 0;
  };
  std::vector<Seen> seen(static_cast<std::size_t>(trace_.id_space()));
  for (std::size_t t = trace_.minibatches(); t-- > 0;) {
    const auto now = static_cast<std::uint32_t>(t);
    for (std::size_t access = trace_.begin(t); access < trace_.end(t); ++access) {
      Seen& row = seen[static_cast<std::size_t>(value(trace_.id(access)))];
      if (row.next == now) {
        next_use_[access] = kRepeat;
        continue;
      }
      next_use_[access] = std::exchange(row.next, now);
      ++row.uses;
    }
  }
  for (const Seen& row : seen)
    if (row.uses > 0) count_uses(row.uses);
}

void OfflineOptimum::link_by_sorting() {
  // Accesses by id, and by time within an id: a stable radix sort of their numbers, 16 bits a pass.
  std::vector<std::uint32_t> order(trace_.accesses()), sorted(trace_.accesses());
  std::iota(order.begin(), order.end(), 0u);
  std::vector<std::size_t> start(1u << 16);
  for (int shift = 0; shift < 64 && (trace_.id_space() - 1) >> shift != 0; shift += 16) {
    const auto digit = [&](std::uint32_t access) {
      return static_cast<std::size_t>(value(trace_.id(access)) >> shift) & 0xFFFF;
    };
    std::fill(start.begin(), start.end(), 0);
    for (const std::uint32_t access : order) ++start[digit(access)];
    std::exclusive_scan(start.begin(), start.end(), start.begin(), std::size_t{0});
    for (const std::uint32_t access : order) sorted[start[digit(access)]++] = access;
    order.swap(sorted);
  }
  // `sorted` is done with: it becomes the minibatch of each access.
  for (std::size_t t = 0; t < trace_.minibatches(); ++t)
    std::fill(sorted.begin() + static_cast<std::ptrdiff_t>(trace_.begin(t)),
              sorted.begin() + static_cast<std::ptrdiff_t>(trace_.end(t)), static_cast<std::uint32_t>(t));
  std::uint32_t uses = 0;
  for (std::size_t i = order.size(); i-- > 0;) {
    const bool last = i + 1 == order.size() || trace_.id(order[i]) != trace_.id(order[i + 1]);
    if (last && uses > 0) count_uses(std::exchange(uses, 0u));
    if (!last && sorted[order[i]] == sorted[order[i + 1]]) {
      // Its successor speaks for both; what follows that is the next use.
      next_use_[order[i]] = next_use_[order[i + 1]];
      next_use_[order[i + 1]] = kRepeat;
      continue;
    }
    if (!last) next_use_[order[i]] = sorted[order[i + 1]];
    ++uses;
  }
  if (uses > 0) count_uses(uses);
}

std::uint64_t OfflineOptimum::min_rows(std::size_t capacity) const {
  KeptRows kept(trace_.minibatches());
  std::uint64_t saved = 0;
  for (std::size_t t = 0; t < trace_.minibatches(); ++t) {
    saved += kept.take(t);
    for (std::size_t access = trace_.begin(t); access < trace_.end(t); ++access) {
      const std::uint32_t use = next_use_[access];
      if (use >= kRepeat) continue;
      if (kept.size() < capacity) {
        kept.add(use);
      } else if (capacity > 0 && use < kept.farthest()) {
        kept.drop(kept.farthest());
        kept.add(use);
      }
    }
  }
  return requested_ - saved;
}

std::uint64_t OfflineOptimum::static_rows(std::size_t capacity) const {
  std::uint64_t saved = 0, places = capacity;
  for (std::size_t uses = rows_by_uses_.size(); uses-- > 1 && places > 0;) {
    const std::uint64_t rows = std::min<std::uint64_t>(places, rows_by_uses_[uses]);
    saved += rows * (uses - 1);
    places -= rows;
  }
  return requested_ - saved;
}

}  // namespace rudder

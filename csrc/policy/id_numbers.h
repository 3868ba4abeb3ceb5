// Numbers attached to ids, sparse: an entry per id that was ever set, in no order. Thread-safety: none.
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "common/id_index.h"
#include "common/types.h"

namespace rudder {

template <typename Number>
class IdNumbers {
 public:
  struct Entry {
    NodeId id;
    Number number;
  };

  // The number of the id, 0 where it has none yet.
  Number& operator[](NodeId id) {
    RowKey at = index_.find(id);
    if (at == kNoRow) {
      at = static_cast<RowKey>(entries_.size());
      index_.insert(id, at);
      entries_.push_back({id, Number{}});
    }
    return entries_[at].number;
  }

  bool contains(NodeId id) const { return index_.find(id) != kNoRow; }

  void erase(NodeId id) {
    const RowKey at = index_.find(id);
    if (at == kNoRow) return;
    index_.erase(id);
    if (at + 1 != entries_.size()) {
      entries_[at] = entries_.back();
      index_.erase(entries_[at].id);
      index_.insert(entries_[at].id, at);
    }
    entries_.pop_back();
  }

  std::span<const Entry> entries() const { return entries_; }

 private:
  IdIndex index_{std::numeric_limits<std::int64_t>::max(), IdIndex::Kind::kHash};
  std::vector<Entry> entries_;
};

}  // namespace rudder

// Ids of rows that left the buffer not long ago: the last `capacity` of them, first in, first out. Keyed by NodeId, because
// keys are recycled once a row is gone. Thread-safety: none.
//
// Invariant: ring_[at] is remembered exactly if index_ maps it to `at`; an id that was taken out, or remembered
// again later, leaves a dead place in the ring behind.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "common/id_index.h"
#include "common/types.h"

namespace rudder {

class Ghost {
 public:
  explicit Ghost(std::size_t capacity) : ring_(capacity) {}

  std::size_t size() const { return index_.size(); }

  // Forgets all, and remembers `capacity` ids from now on.
  void reset(std::size_t capacity) { *this = Ghost(capacity); }

  void remember(NodeId id) {
    if (ring_.empty()) return;
    take(id);
    const auto at = static_cast<RowKey>(next_);
    if (index_.find(ring_[at]) == at) index_.erase(ring_[at]);
    ring_[at] = id;
    index_.insert(id, at);
    next_ = next_ + 1 == ring_.size() ? 0 : next_ + 1;
  }

  // Was the id remembered? It no longer is.
  bool take(NodeId id) {
    if (index_.find(id) == kNoRow) return false;
    index_.erase(id);
    return true;
  }

 private:
  std::vector<NodeId> ring_;
  std::size_t next_ = 0;
  IdIndex index_{std::numeric_limits<std::int64_t>::max(), IdIndex::Kind::kHash};
};

}  // namespace rudder

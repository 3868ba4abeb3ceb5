// Ids of rows that left the buffer not long ago, at most `capacity` of them, first in, first out. Keyed by
// NodeId, because keys are recycled once a row is gone. Thread-safety: none.
//
// Invariant: index_ maps each remembered id to its place, order_ holds exactly those places, free_ the
// others.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "common/id_index.h"
#include "policy/row_list.h"

namespace rudder {

class Ghost {
 public:
  explicit Ghost(std::size_t capacity) : capacity_(capacity) {}

  std::size_t size() const { return order_.size(); }

  // REQUIRES that the id is not remembered.
  void remember(NodeId id) {
    if (capacity_ == 0) return;
    if (size() == capacity_) take(ids_[order_.oldest()]);
    if (free_.empty()) {
      free_.push_back(static_cast<RowKey>(ids_.size()));
      ids_.emplace_back();
      links_.reserve(ids_.size());
    }
    const RowKey place = free_.back();
    free_.pop_back();
    ids_[place] = id;
    order_.push(links_, place);
    index_.insert(id, place);
  }

  // Was the id remembered? It no longer is.
  bool take(NodeId id) {
    const RowKey place = index_.find(id);
    if (place == kNoRow) return false;
    index_.erase(id);
    order_.remove(links_, place);
    free_.push_back(place);
    return true;
  }

  void set_capacity(std::size_t capacity) {
    capacity_ = capacity;
    while (size() > capacity_) take(ids_[order_.oldest()]);
  }

 private:
  std::size_t capacity_;
  IdIndex index_{std::numeric_limits<std::int64_t>::max(), IdIndex::Kind::kHash};
  std::vector<NodeId> ids_;  // by place
  RowLinks links_;           // between places, which play the part of keys
  RowList order_;
  std::vector<RowKey> free_;
};

}  // namespace rudder

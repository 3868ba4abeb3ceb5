// Intrusive doubly linked lists over row keys: the order that most replacement policies keep. Links live in
// one array for all lists of a policy, so moving a row from list to list allocates nothing. Thread-safety:
// none.
//
// Invariants:
//   - a row is in at most one of the lists that share a RowLinks;
//   - links of a row that is in no list mean nothing.
#pragma once

#include <cstddef>
#include <vector>

#include "common/types.h"

namespace rudder {

class RowLinks {
 public:
  void reserve(std::size_t keys) {
    if (keys > links_.size()) links_.resize(keys);
  }

 private:
  friend class RowList;
  struct Link {
    RowKey newer, older;
  };
  std::vector<Link> links_;
};

// One list, from its newest row to its oldest. Every call takes the links that the list was built over.
class RowList {
 public:
  bool empty() const { return oldest_ == kNoRow; }
  std::size_t size() const { return size_; }
  RowKey newest() const { return newest_; }
  RowKey oldest() const { return oldest_; }
  // The neighbour of `row` towards the newest end; kNoRow for the newest.
  static RowKey newer(const RowLinks& links, RowKey row) { return links.links_[row].newer; }

  // REQUIRES that the row is in no list.
  void push(RowLinks& links, RowKey row) {
    links.links_[row] = {kNoRow, newest_};
    (newest_ == kNoRow ? oldest_ : links.links_[newest_].newer) = row;
    newest_ = row;
    ++size_;
  }

  // REQUIRES that the row is in this list.
  void remove(RowLinks& links, RowKey row) {
    const RowLinks::Link link = links.links_[row];
    (link.newer == kNoRow ? newest_ : links.links_[link.newer].older) = link.older;
    (link.older == kNoRow ? oldest_ : links.links_[link.older].newer) = link.newer;
    --size_;
  }

  // Makes the row the newest. REQUIRES that it is in this list.
  void renew(RowLinks& links, RowKey row) {
    if (row == newest_) return;
    remove(links, row);
    push(links, row);
  }

 private:
  RowKey newest_ = kNoRow, oldest_ = kNoRow;
  std::size_t size_ = 0;
};

}  // namespace rudder

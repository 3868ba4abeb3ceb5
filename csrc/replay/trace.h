// A trace: the remote rows that each minibatch of a run requested, in order. A view; whoever made it keeps
// the arrays. Thread-safety: as of the arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/types.h"

namespace rudder {

class Trace {
 public:
  // Minibatch t requested ids[offsets[t]] to ids[offsets[t + 1] - 1]; offsets begin with 0 and end with
  // ids.size(). Throws Error(kConfig) for a negative id, and for offsets that decrease or do not fit.
  Trace(std::span<const NodeId> ids, std::span<const std::int64_t> offsets);
  Trace(std::span<const std::int32_t> ids, std::span<const std::int64_t> offsets);

  std::size_t minibatches() const { return offsets_.size() - 1; }
  std::size_t accesses() const { return wide_.size() + narrow_.size(); }
  // Every id is below it.
  std::int64_t id_space() const { return id_space_; }

  NodeId id(std::size_t access) const {
    return narrow_.empty() ? wide_[access] : static_cast<NodeId>(narrow_[access]);
  }
  std::size_t begin(std::size_t minibatch) const { return static_cast<std::size_t>(offsets_[minibatch]); }
  std::size_t end(std::size_t minibatch) const { return static_cast<std::size_t>(offsets_[minibatch + 1]); }

  // The ids of a minibatch; narrow ones are widened into `scratch`, which must outlive the answer.
  std::span<const NodeId> ids(std::size_t minibatch, std::vector<NodeId>& scratch) const {
    const std::size_t first = begin(minibatch), count = end(minibatch) - first;
    return narrow_.empty() ? wide_.subspan(first, count) : widened(narrow_.subspan(first, count), scratch);
  }

 private:
  void check(std::size_t accesses);
  static std::span<const NodeId> widened(std::span<const std::int32_t> ids, std::vector<NodeId>& scratch);

  std::span<const NodeId> wide_;  // one of the two is empty
  std::span<const std::int32_t> narrow_;
  std::span<const std::int64_t> offsets_;
  std::int64_t id_space_ = 0;
};

}  // namespace rudder

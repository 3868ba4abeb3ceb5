// Which partition owns an id: partition p owns the ids [starts[p], starts[p+1]), as DistDGL's range partition
// book says.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/types.h"

namespace rudder {

class PartMap {
 public:
  // `starts` begins with 0, ascends, and has one entry more than partitions. Throws Error(kConfig).
  PartMap(std::vector<std::int64_t> starts, PartId local) : starts_(std::move(starts)), local_(local) {
    if (starts_.size() < 2 || starts_.front() != 0 || !std::is_sorted(starts_.begin(), starts_.end()))
      throw Error(ErrorCode::kConfig,
                  "part_starts must begin with 0 and ascend, with one entry more than partitions");
    if (value(local_) < 0 || value(local_) >= parts())
      throw Error(ErrorCode::kConfig,
                  "local_part must be one of the " + std::to_string(parts()) + " partitions");
  }

  std::int32_t parts() const { return static_cast<std::int32_t>(starts_.size()) - 1; }
  std::int64_t ids() const { return starts_.back(); }
  std::int64_t rows(PartId part) const { return start(part, 1) - start(part); }
  PartId local() const { return local_; }
  NodeId local_begin() const { return id_of(0, local_); }
  NodeId local_end() const { return id_of(rows(local_), local_); }
  bool is_local(NodeId id) const { return value(id) >= start(local_) && value(id) < start(local_, 1); }

  // REQUIRES 0 <= id < ids().
  PartId part_of(NodeId id) const {
    return static_cast<PartId>(std::upper_bound(starts_.begin(), starts_.end(), value(id)) - starts_.begin() -
                               1);
  }
  // The row's number inside its partition. REQUIRES part_of(id) == part.
  std::int64_t row_of(NodeId id, PartId part) const { return value(id) - start(part); }
  NodeId id_of(std::int64_t row, PartId part) const { return static_cast<NodeId>(start(part) + row); }

 private:
  std::int64_t start(PartId part, std::size_t next = 0) const {
    return starts_[static_cast<std::size_t>(value(part)) + next];
  }

  std::vector<std::int64_t> starts_;
  PartId local_;
};

}  // namespace rudder

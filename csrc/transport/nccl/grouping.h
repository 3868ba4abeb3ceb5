// Ids grouped by the rank that owns them, in one pass each for counting and placing. Called by any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/part_map.h"

namespace rudder::nccl {

struct Grouped {
  std::vector<std::int64_t> counts;     // by owner
  std::vector<std::int64_t> rows;       // numbers inside the owners' shards; owner after owner
  std::vector<std::int64_t> positions;  // where in `rows` ids[i] is; empty where that is i throughout
};

// Ids of one owner keep their order. Throws Error(kOutOfRange) for an id outside the table.
template <class Id>
Grouped group(std::span<const Id> ids, const PartMap& parts) {
  Grouped grouped;
  grouped.counts.resize(static_cast<std::size_t>(parts.parts()));
  std::vector<std::int32_t> owners(ids.size());
  bool in_order = true;
  std::int32_t before = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t id = ids[i];
    if (id < 0 || id >= parts.ids())
      throw Error(ErrorCode::kOutOfRange, "id " + std::to_string(id) + " is outside of the table of " +
                                              std::to_string(parts.ids()) + " rows");
    const std::int32_t owner = value(parts.part_of(static_cast<NodeId>(id)));
    owners[i] = owner;
    ++grouped.counts[static_cast<std::size_t>(owner)];
    in_order = in_order && owner >= before;
    before = owner;
  }
  std::vector<std::int64_t> next(grouped.counts.size());
  for (std::size_t p = 1; p < next.size(); ++p) next[p] = next[p - 1] + grouped.counts[p - 1];
  grouped.rows.resize(ids.size());
  if (!in_order) grouped.positions.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t at = next[static_cast<std::size_t>(owners[i])]++;
    grouped.rows[static_cast<std::size_t>(at)] =
        parts.row_of(static_cast<NodeId>(ids[i]), static_cast<PartId>(owners[i]));
    if (!in_order) grouped.positions[i] = at;
  }
  return grouped;
}

}  // namespace rudder::nccl

// Ids numbered from 0 in the order in which they come, those of one minibatch by their size.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "common/id_index.h"
#include "common/types.h"

namespace rudder {

class Numbering {
 public:
  // Of every id that came, by its number.
  const std::vector<NodeId>& ids() const { return ids_; }
  // The numbers of these ids, each once. Throws Error(kOutOfRange) for an id below 0.
  std::vector<std::int64_t> of(std::span<const NodeId> ids);

 private:
  // Ids lie anywhere, and few of them are here: a table by id would be as large as the graph.
  IdIndex index_{std::numeric_limits<std::int64_t>::max(), IdIndex::Kind::kHash};
  std::vector<NodeId> ids_;
  std::vector<NodeId> sorted_;  // scratch
};

}  // namespace rudder

// What one fetch brings: rows between the network and the buffer, who waits for them, and which of them the
// buffer wants. Owned by the owner thread; whoever reads the rows keeps them alive by holding it.
#pragma once

#include <memory>
#include <vector>

#include "buffer/feature_buffer.h"
#include "common/types.h"
#include "memory/slab_pool.h"

namespace rudder {

struct Minibatch;

struct Staged : std::enable_shared_from_this<Staged> {
  // A row that moves to its slot once it is here and nobody reads the slot's old row any more.
  struct Fill {
    SlotId slot;
    const std::byte* from;
  };

  SlabPool::Slab slab;
  std::vector<NodeId> ids;  // in the order of the slab
  std::vector<Fill> fills;
  std::vector<std::shared_ptr<Minibatch>> waiters;
  bool done = false;

  bool holds(const std::byte* row) const { return row >= slab.data() && row < slab.data() + slab.bytes(); }
};

}  // namespace rudder

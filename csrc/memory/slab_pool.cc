#include "memory/slab_pool.h"

#include <algorithm>
#include <bit>

namespace rudder {
namespace {

// Sizes are rounded up to powers of two from here, so that minibatches of a similar size reuse each other's
// slabs.
constexpr std::size_t kSmallest = std::size_t{64} << 10;

}  // namespace

SlabPool::Slab SlabPool::acquire(std::size_t bytes) {
  const std::size_t size = std::bit_ceil(std::max(bytes, kSmallest));
  Arena arena;
  {
    const std::lock_guard lock(mutex_);
    // A slab up to four times too large is still better than fresh pages.
    auto best = idle_.end();
    for (auto it = idle_.begin(); it != idle_.end(); ++it)
      if (it->mapped() >= bytes && it->mapped() <= size * 4 &&
          (best == idle_.end() || it->mapped() < best->mapped()))
        best = it;
    if (best != idle_.end()) {
      std::swap(*best, idle_.back());
      arena = std::move(idle_.back());
      idle_.pop_back();
      idle_bytes_ -= arena.mapped();
    }
  }
  if (arena.data() == nullptr) arena = Arena(size, arena_);
  const std::lock_guard lock(mutex_);
  in_use_ += arena.mapped();
  return Slab(shared_from_this(), std::move(arena));
}

std::size_t SlabPool::bytes_in_use() const {
  const std::lock_guard lock(mutex_);
  return in_use_;
}

std::size_t SlabPool::bytes_idle() const {
  const std::lock_guard lock(mutex_);
  return idle_bytes_;
}

void SlabPool::trim(std::size_t bytes) {
  std::vector<Arena> gone;
  const std::lock_guard lock(mutex_);
  while (idle_bytes_ > bytes) {
    idle_bytes_ -= idle_.back().mapped();
    gone.push_back(std::move(idle_.back()));
    idle_.pop_back();
  }
}

void SlabPool::give_back(Arena arena) {
  const std::lock_guard lock(mutex_);
  in_use_ -= arena.mapped();
  idle_bytes_ += arena.mapped();
  idle_.push_back(std::move(arena));
}

}  // namespace rudder

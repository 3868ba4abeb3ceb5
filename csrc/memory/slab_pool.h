// Staging memory for rows on their way in: one slab per fetch, recycled, because mapping and zeroing fresh
// pages for each minibatch would cost as much as copying the rows. Any thread may acquire; a slab goes back
// when it is destroyed.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "memory/arena.h"

namespace rudder {

class SlabPool : public std::enable_shared_from_this<SlabPool> {
 public:
  // Owns an arena of the pool while it lives.
  class Slab {
   public:
    Slab() = default;
    Slab(Slab&&) = default;
    Slab& operator=(Slab&&) = default;
    ~Slab() {
      if (pool_) pool_->give_back(std::move(arena_));
    }
    std::byte* data() const { return arena_.data(); }
    std::size_t bytes() const { return arena_.mapped(); }

   private:
    friend class SlabPool;
    Slab(std::shared_ptr<SlabPool> pool, Arena arena) : pool_(std::move(pool)), arena_(std::move(arena)) {}
    std::shared_ptr<SlabPool> pool_;
    Arena arena_;
  };

  explicit SlabPool(Arena::Options arena) : arena_(std::move(arena)) {}
  // Slabs are arenas with these options.
  static std::shared_ptr<SlabPool> make(Arena::Options arena = {}) {
    return std::make_shared<SlabPool>(std::move(arena));
  }

  // At least `bytes` of memory, contents unspecified. Throws Error(kOutOfMemory).
  Slab acquire(std::size_t bytes);

  std::size_t bytes_in_use() const;
  std::size_t bytes_idle() const;
  // Frees idle slabs until at most `bytes` of them are left.
  void trim(std::size_t bytes);

 private:
  void give_back(Arena arena);

  const Arena::Options arena_;
  mutable std::mutex mutex_;
  std::vector<Arena> idle_;
  std::size_t in_use_ = 0;
  std::size_t idle_bytes_ = 0;
};

}  // namespace rudder

// NodeId -> RowKey, the one hash lookup behind every access. A direct table where the id space is small enough
// (one load per id), otherwise open addressing with linear probing; either way lookups of many ids hide
// the memory latency by prefetching. Used by the ledger's owner thread only. Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/types.h"

namespace rudder {

class IdIndex {
 public:
  // Ids up to here are worth a direct table: 4 bytes each, committed page by page as ids are touched, so the
  // cost is at most 200 MB of address space. Beyond it the hash's 16-32 bytes per *tracked* row win.
  static constexpr std::int64_t kDirectLimit = 50'000'000;

  enum class Kind { kDirect, kHash };

  // `id_space`: every id is in [0, id_space). Picks the kind by kDirectLimit.
  explicit IdIndex(std::int64_t id_space);
  IdIndex(std::int64_t id_space, Kind kind);

  Kind kind() const { return kind_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const;

  // kNoRow where the id is absent. REQUIRES 0 <= id < id_space.
  RowKey find(NodeId id) const { return kind_ == Kind::kDirect ? direct_[value(id)] - 1u : find_hashed(id); }
  // The same for many; keys.size() == ids.size().
  void find(std::span<const NodeId> ids, std::span<RowKey> keys) const;

  // REQUIRES that id is absent and key != kNoRow.
  void insert(NodeId id, RowKey key);
  // REQUIRES that id is present.
  void erase(NodeId id);

 private:
  // `key` is stored plus one, so that zeroed memory is an empty table: 0 - 1 == kNoRow.
  struct Entry {
    std::int64_t id;
    std::uint32_t key_plus_one;
  };
  struct Free {
    void operator()(void* memory) const;
  };

  std::size_t home(std::int64_t id) const {
    // Fibonacci hashing: consecutive ids (ids of a partition are consecutive) spread over the whole table.
    return static_cast<std::size_t>((static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15ull) >> shift_);
  }
  RowKey find_hashed(NodeId id) const;
  void rehash(std::size_t slots);

  Kind kind_;
  std::int64_t id_space_;
  std::size_t size_ = 0;
  std::unique_ptr<std::uint32_t[], Free> direct_;
  std::unique_ptr<Entry[], Free> table_;
  std::size_t slots_ = 0;  // power of two
  int shift_ = 0;          // 64 - log2(slots_)
};

}  // namespace rudder

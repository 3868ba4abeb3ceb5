// NodeId -> RowKey, the one hash lookup behind every access. A direct table where the id space is small
// enough (one load per id), otherwise open addressing over buckets of one cache line; either way lookups of
// many ids hide the memory latency by prefetching. Used by the ledger's owner thread only. Thread-safety:
// none.
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
  // Ids up to here are worth a direct table: 4 bytes each, committed as ids are touched, 200 MB at most.
  // Beyond it the hash's 16-32 bytes per *tracked* row win.
  static constexpr std::int64_t kDirectLimit = 50'000'000;

  enum class Kind { kDirect, kHash };

  // `id_space`: every id is in [0, id_space). Picks the kind by kDirectLimit.
  explicit IdIndex(std::int64_t id_space);
  IdIndex(std::int64_t id_space, Kind kind);
  // A copy holds memory for what is there, as its original does. Throws Error(kOutOfMemory).
  IdIndex(const IdIndex& other);
  IdIndex& operator=(const IdIndex& other) { return *this = IdIndex(other); }
  IdIndex(IdIndex&&) = default;
  IdIndex& operator=(IdIndex&&) = default;

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
  // One cache line of entries, searched without a branch that could be mispredicted. A key is stored plus
  // one, so that zeroed memory is an empty table: 0 - 1 == kNoRow. Invariant: an entry lies in the first
  // bucket from its home on that had room when it came; every full bucket that it passed counts it in
  // `passed`, so a search ends at the first bucket that nobody passed.
  struct alignas(64) Bucket {
    static constexpr std::size_t kEntries = 5;
    std::int64_t ids[kEntries];
    std::uint32_t keys_plus_one[kEntries];
    std::uint32_t passed;
  };
  struct Unmap {
    std::size_t bytes;
    void operator()(void* memory) const;
  };

  std::size_t home(std::int64_t id) const {
    // Fibonacci hashing: consecutive ids (ids of a partition are consecutive) spread over the whole table.
    return static_cast<std::size_t>((static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15ull) >> shift_);
  }
  RowKey find_hashed(NodeId id) const;
  void place(std::int64_t id, std::uint32_t key_plus_one);
  void rehash(std::size_t buckets);

  Kind kind_;
  std::int64_t id_space_;
  std::size_t size_ = 0;
  std::size_t touched_ = 0;  // entries of the direct table from the first to the last that was ever set
  std::unique_ptr<std::uint32_t[], Unmap> direct_{nullptr, Unmap{0}};
  std::unique_ptr<Bucket[], Unmap> table_{nullptr, Unmap{0}};
  std::size_t buckets_ = 0;  // power of two
  int shift_ = 0;            // 64 - log2(buckets_)
};

}  // namespace rudder

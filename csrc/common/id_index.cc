#include "common/id_index.h"

#include <bit>
#include <cstdlib>
#include <new>

#include "common/error.h"

namespace rudder {
namespace {

// Ids ahead of the one being looked up. Deep enough to cover a DRAM access at 5-10 ns of work per id; deeper
// only evicts lines before use.
constexpr std::size_t kPrefetchAhead = 16;
constexpr std::size_t kFirstSlots = 1024;

// calloc hands out untouched zero pages for large sizes: an index costs what it holds, not what it could hold.
template <typename T>
T* zeroed(std::size_t count) {
  void* memory = std::calloc(count, sizeof(T));
  if (memory == nullptr)
    throw Error(ErrorCode::kOutOfMemory, "no memory for an index of " + std::to_string(count) + " entries");
  return static_cast<T*>(memory);
}

}  // namespace

void IdIndex::Free::operator()(void* memory) const { std::free(memory); }

IdIndex::IdIndex(std::int64_t id_space)
    : IdIndex(id_space, id_space <= kDirectLimit ? Kind::kDirect : Kind::kHash) {}

IdIndex::IdIndex(std::int64_t id_space, Kind kind) : kind_(kind), id_space_(id_space) {
  if (id_space < 0) throw Error(ErrorCode::kConfig, "the id space must not be negative");
  if (kind_ == Kind::kDirect)
    direct_.reset(zeroed<std::uint32_t>(static_cast<std::size_t>(id_space) + 1));
  else
    rehash(kFirstSlots);
}

std::size_t IdIndex::bytes() const {
  return kind_ == Kind::kDirect ? static_cast<std::size_t>(id_space_) * sizeof(std::uint32_t)
                                : slots_ * sizeof(Entry);
}

RowKey IdIndex::find_hashed(NodeId id) const {
  const std::int64_t wanted = value(id);
  for (std::size_t at = home(wanted);; at = (at + 1) & (slots_ - 1)) {
    const Entry& entry = table_[at];
    if (entry.key_plus_one == 0) return kNoRow;
    if (entry.id == wanted) return entry.key_plus_one - 1;
  }
}

void IdIndex::find(std::span<const NodeId> ids, std::span<RowKey> keys) const {
  const std::size_t n = ids.size();
  if (kind_ == Kind::kDirect) {
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kPrefetchAhead < n) __builtin_prefetch(&direct_[value(ids[i + kPrefetchAhead])]);
      keys[i] = direct_[value(ids[i])] - 1u;
    }
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kPrefetchAhead < n) __builtin_prefetch(&table_[home(value(ids[i + kPrefetchAhead]))]);
    keys[i] = find_hashed(ids[i]);
  }
}

void IdIndex::insert(NodeId id, RowKey key) {
  ++size_;
  if (kind_ == Kind::kDirect) {
    direct_[value(id)] = key + 1;
    return;
  }
  if (size_ * 2 > slots_) rehash(slots_ * 2);  // load at most 1/2: probes stay within one cache line
  std::size_t at = home(value(id));
  while (table_[at].key_plus_one != 0) at = (at + 1) & (slots_ - 1);
  table_[at] = Entry{value(id), key + 1};
}

void IdIndex::erase(NodeId id) {
  --size_;
  if (kind_ == Kind::kDirect) {
    direct_[value(id)] = 0;
    return;
  }
  const std::size_t mask = slots_ - 1;
  std::size_t hole = home(value(id));
  while (table_[hole].id != value(id) || table_[hole].key_plus_one == 0) hole = (hole + 1) & mask;
  // Backward-shift deletion: move up every entry that probes through the hole; no tombstones to sweep.
  for (std::size_t at = (hole + 1) & mask; table_[at].key_plus_one != 0; at = (at + 1) & mask) {
    const std::size_t distance = (at - home(table_[at].id)) & mask;
    if (distance >= ((at - hole) & mask)) {
      table_[hole] = table_[at];
      hole = at;
    }
  }
  table_[hole] = Entry{0, 0};
}

void IdIndex::rehash(std::size_t slots) {
  auto old = std::move(table_);
  const std::size_t old_slots = slots_;
  table_.reset(zeroed<Entry>(slots));
  slots_ = slots;
  shift_ = 64 - std::countr_zero(slots);
  for (std::size_t i = 0; i < old_slots; ++i) {
    if (old[i].key_plus_one == 0) continue;
    std::size_t at = home(old[i].id);
    while (table_[at].key_plus_one != 0) at = (at + 1) & (slots_ - 1);
    table_[at] = old[i];
  }
}

}  // namespace rudder

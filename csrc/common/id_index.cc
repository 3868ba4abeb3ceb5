#include "common/id_index.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "common/error.h"

namespace rudder {
namespace {

// Ids ahead of the one being looked up whose lines are asked for: into L2, since L1 tracks too few missing
// lines to hide an access to memory (asked for into L1, a direct table over 40M ids takes 8 ns an id at any
// distance, into L2 4.5 to 5; 5 at a distance of 32, no less beyond 64). Further ahead, a short minibatch is
// not covered.
constexpr std::size_t kToL2Ahead = 64;
// From L2 into L1: a bucket is a whole line that is searched, so its 5 ns from L2 show; a table's load
// overlaps them.
constexpr std::size_t kToL1Ahead = 8;
constexpr std::size_t kFirstBuckets = 256;
// Share of the entries in use before the table doubles: fuller, and searches overflow into a second line (14%
// of the buckets are full at 0.7); emptier, and there are more lines to miss.
constexpr double kMostFull = 0.7;

constexpr std::size_t kPage = 4096 / sizeof(std::uint32_t);  // entries of the direct table

void to_l2(const void* line) { __builtin_prefetch(line, 0, 2); }

// Untouched zero pages: an index costs what it holds, not what it could hold. On huge pages where the kernel
// grants them: lookups are random, and with 4 KiB pages nearly each of them would miss the TLB too.
template <typename T>
T* zeroed(std::size_t count) {
  const std::size_t bytes = count * sizeof(T);
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(ErrorCode::kOutOfMemory, "no memory for an index of " + std::to_string(count) + " entries");
  madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<T*>(memory);
}

}  // namespace

void IdIndex::Unmap::operator()(void* memory) const { munmap(memory, bytes); }

IdIndex::IdIndex(std::int64_t id_space)
    : IdIndex(id_space, id_space <= kDirectLimit ? Kind::kDirect : Kind::kHash) {}

IdIndex::IdIndex(std::int64_t id_space, Kind kind) : kind_(kind), id_space_(id_space) {
  if (id_space < 0) throw Error(ErrorCode::kConfig, "the id space must not be negative");
  if (kind_ == Kind::kDirect)
    direct_ = {zeroed<std::uint32_t>(static_cast<std::size_t>(id_space) + 1),
               Unmap{(static_cast<std::size_t>(id_space) + 1) * sizeof(std::uint32_t)}};
  else
    rehash(kFirstBuckets);
}

IdIndex::IdIndex(const IdIndex& other)
    : kind_(other.kind_),
      id_space_(other.id_space_),
      size_(other.size_),
      touched_(other.touched_),
      buckets_(other.buckets_),
      shift_(other.shift_) {
  if (kind_ == Kind::kHash) {
    table_ = {zeroed<Bucket>(buckets_), Unmap{buckets_ * sizeof(Bucket)}};
    std::copy_n(other.table_.get(), buckets_, table_.get());
    return;
  }
  const std::size_t ids = static_cast<std::size_t>(id_space_) + 1;
  direct_ = {zeroed<std::uint32_t>(ids), Unmap{ids * sizeof(std::uint32_t)}};
  for (std::size_t from = 0; from < touched_; from += kPage) {
    const std::uint32_t* page = other.direct_.get() + from;
    const std::size_t entries = std::min(kPage, touched_ - from);
    // Pages that hold nothing stay untouched.
    if (std::any_of(page, page + entries, [](std::uint32_t key_plus_one) { return key_plus_one != 0; }))
      std::copy_n(page, entries, direct_.get() + from);
  }
}

std::size_t IdIndex::bytes() const {
  return kind_ == Kind::kDirect ? static_cast<std::size_t>(id_space_) * sizeof(std::uint32_t)
                                : buckets_ * sizeof(Bucket);
}

RowKey IdIndex::find_hashed(NodeId id) const {
  const std::int64_t wanted = value(id);
  for (std::size_t at = home(wanted);; at = (at + 1) & (buckets_ - 1)) {
    const Bucket& bucket = table_[at];
    std::uint32_t found = 0;
    for (std::size_t i = 0; i < Bucket::kEntries; ++i)
      found |= bucket.ids[i] == wanted ? bucket.keys_plus_one[i] : 0u;
    // Hit and miss leave here alike: only the rare overflow goes on.
    if ((found != 0) | (bucket.passed == 0)) [[likely]]
      return found - 1u;
  }
}

void IdIndex::find(std::span<const NodeId> ids, std::span<RowKey> keys) const {
  const std::size_t n = ids.size();
  if (kind_ == Kind::kDirect) {
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kToL2Ahead < n) to_l2(&direct_[value(ids[i + kToL2Ahead])]);
      keys[i] = direct_[value(ids[i])] - 1u;
    }
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kToL2Ahead < n) to_l2(&table_[home(value(ids[i + kToL2Ahead]))]);
    if (i + kToL1Ahead < n) __builtin_prefetch(&table_[home(value(ids[i + kToL1Ahead]))]);
    keys[i] = find_hashed(ids[i]);
  }
}

void IdIndex::insert(NodeId id, RowKey key) {
  ++size_;
  if (kind_ == Kind::kDirect) {
    direct_[value(id)] = key + 1;
    touched_ = std::max(touched_, static_cast<std::size_t>(value(id)) + 1);
    return;
  }
  if (size_ > static_cast<std::size_t>(kMostFull * static_cast<double>(buckets_ * Bucket::kEntries)))
    rehash(buckets_ * 2);
  place(value(id), key + 1);
}

void IdIndex::place(std::int64_t id, std::uint32_t key_plus_one) {
  for (std::size_t at = home(id);; at = (at + 1) & (buckets_ - 1)) {
    Bucket& bucket = table_[at];
    for (std::size_t i = 0; i < Bucket::kEntries; ++i) {
      if (bucket.keys_plus_one[i] != 0) continue;
      bucket.ids[i] = id;
      bucket.keys_plus_one[i] = key_plus_one;
      return;
    }
    ++bucket.passed;
  }
}

void IdIndex::erase(NodeId id) {
  --size_;
  if (kind_ == Kind::kDirect) {
    direct_[value(id)] = 0;
    return;
  }
  for (std::size_t at = home(value(id));; at = (at + 1) & (buckets_ - 1)) {
    Bucket& bucket = table_[at];
    for (std::size_t i = 0; i < Bucket::kEntries; ++i) {
      if (bucket.keys_plus_one[i] == 0 || bucket.ids[i] != value(id)) continue;
      bucket.keys_plus_one[i] = 0;
      return;
    }
    --bucket.passed;
  }
}

void IdIndex::rehash(std::size_t buckets) {
  const auto old = std::move(table_);
  const std::size_t old_buckets = buckets_;
  table_ = {zeroed<Bucket>(buckets), Unmap{buckets * sizeof(Bucket)}};
  buckets_ = buckets;
  shift_ = 64 - std::countr_zero(buckets);
  for (std::size_t at = 0; at < old_buckets; ++at)
    for (std::size_t i = 0; i < Bucket::kEntries; ++i)
      if (old[at].keys_plus_one[i] != 0) place(old[at].ids[i], old[at].keys_plus_one[i]);
}

}  // namespace rudder

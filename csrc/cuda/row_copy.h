// The body of every gather: one text that the GPU's kernels and the CPU both run, so that tests on machines
// without a GPU run the very code that a GPU runs. No CUDA header is needed to compile it.
//
// A group of `lanes` neighbouring threads copies one row; rows are dealt to groups in turns (grid-stride). A
// row is copied in vectors of `vector` bytes, the widest that row size and every address allow.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define RUDDER_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define RUDDER_HOST_DEVICE inline
#endif

namespace rudder::cuda {

// Threads of a warp; a row is never shared by more.
inline constexpr unsigned kWarp = 32;

// Where rows come from: an address or a slot for each row (any mix of memory), or numbers of rows of one
// table. A slot is 4 bytes: the number of a window, and in the lower kRowBits that of a row in it.
enum class From : std::uint8_t { kAddresses, kSlots, kInt32, kInt64 };

// A million rows a window: whole tiers and shards in a few of them, and 4,096 windows.
inline constexpr unsigned kRowBits = 20;

// Rows to copy, each row_bytes long. All pointers are readable by whoever runs it.
struct RowCopies {
  std::size_t rows = 0;
  std::size_t row_bytes = 0;
  From from = From::kAddresses;
  const void* index = nullptr;          // addresses, slots, or int32 / int64 row numbers, >= 0
  const std::byte* table = nullptr;     // of row numbers
  std::byte* const* windows = nullptr;  // of slots: where each begins
  const void* to = nullptr;  // slots where `index` holds slots, else addresses; null: one row after another
                             // from `out` on
  std::byte* out = nullptr;
  unsigned vector = 1;  // 16, 8, 4 or 1; divides row_bytes and every address
};

// The widest vector that divides all of what was or-ed into `bits`: row size and addresses.
RUDDER_HOST_DEVICE unsigned widest_vector(std::uint64_t bits) {
  return (bits & 15) == 0 ? 16 : (bits & 7) == 0 ? 8 : (bits & 3) == 0 ? 4 : 1;
}

// Rows of one table by number, into one batch; `from` says what the numbers are.
inline RowCopies rows_by_number(const std::byte* table, std::size_t row_bytes, From from, const void* numbers,
                                std::size_t rows, std::byte* out) {
  return {.rows = rows,
          .row_bytes = row_bytes,
          .from = from,
          .index = numbers,
          .table = table,
          .out = out,
          .vector = widest_vector(row_bytes | reinterpret_cast<std::uint64_t>(table) |
                                  reinterpret_cast<std::uint64_t>(out))};
}

// Threads that share a row: as many as it has vectors, up to a warp; a power of two, so that groups fit
// warps.
RUDDER_HOST_DEVICE unsigned lanes_of(std::size_t row_bytes, unsigned vector) {
  unsigned lanes = 1;
  while (lanes < kWarp && lanes * std::size_t{vector} < row_bytes) lanes *= 2;
  return lanes;
}

// Bytes are bytes, whatever type they were written as.
struct __attribute__((may_alias, aligned(16))) Vector16 {
  std::uint32_t word[4];
};
using Vector8 = std::uint64_t __attribute__((may_alias));
using Vector4 = std::uint32_t __attribute__((may_alias));
using Vector1 = std::uint8_t;

template <typename Vector>
RUDDER_HOST_DEVICE void copy_row(const std::byte* from, std::byte* to, std::size_t row_bytes, unsigned lane,
                                 unsigned lanes) {
  const auto* source = reinterpret_cast<const Vector*>(from);
  auto* target = reinterpret_cast<Vector*>(to);
  const std::size_t vectors = row_bytes / sizeof(Vector);
  std::size_t at = lane;
  // Four loads under way before the first store: what hides the latency of memory across the bus.
  for (; at + 3 * std::size_t{lanes} < vectors; at += 4 * std::size_t{lanes}) {
    const Vector a = source[at], b = source[at + lanes];
    const Vector c = source[at + 2 * std::size_t{lanes}], d = source[at + 3 * std::size_t{lanes}];
    target[at] = a;
    target[at + lanes] = b;
    target[at + 2 * std::size_t{lanes}] = c;
    target[at + 3 * std::size_t{lanes}] = d;
  }
  for (; at < vectors; at += lanes) target[at] = source[at];
}

RUDDER_HOST_DEVICE std::byte* slot_at(const RowCopies& job, const void* list, std::size_t row) {
  const std::uint32_t slot = static_cast<const std::uint32_t*>(list)[row];
  return job.windows[slot >> kRowBits] +
         static_cast<std::size_t>(slot & ((std::uint32_t{1} << kRowBits) - 1)) * job.row_bytes;
}

template <From kFrom>
RUDDER_HOST_DEVICE const std::byte* source_of(const RowCopies& job, std::size_t row) {
  if constexpr (kFrom == From::kAddresses) {
    return static_cast<const std::byte* const*>(job.index)[row];
  } else if constexpr (kFrom == From::kSlots) {
    return slot_at(job, job.index, row);
  } else if constexpr (kFrom == From::kInt32) {
    return job.table +
           static_cast<std::size_t>(static_cast<const std::int32_t*>(job.index)[row]) * job.row_bytes;
  } else {
    return job.table +
           static_cast<std::size_t>(static_cast<const std::int64_t*>(job.index)[row]) * job.row_bytes;
  }
}

template <From kFrom>
RUDDER_HOST_DEVICE std::byte* target_of(const RowCopies& job, std::size_t row) {
  if (job.to == nullptr) return job.out + row * job.row_bytes;
  if constexpr (kFrom == From::kSlots) {
    return slot_at(job, job.to, row);
  } else {
    return static_cast<std::byte* const*>(job.to)[row];
  }
}

template <typename Vector, From kFrom>
RUDDER_HOST_DEVICE void copy_rows(const RowCopies& job, std::size_t group, std::size_t groups, unsigned lane,
                                  unsigned lanes) {
  for (std::size_t row = group; row < job.rows; row += groups) {
    copy_row<Vector>(source_of<kFrom>(job, row), target_of<kFrom>(job, row), job.row_bytes, lane, lanes);
  }
}

// Calls run.operator()<Vector, From>() for the job's vector and kind of source: the one place that picks.
template <typename Run>
void dispatch(const RowCopies& job, Run&& run) {
  const auto with = [&]<typename Vector>() {
    switch (job.from) {
      case From::kAddresses:
        return run.template operator()<Vector, From::kAddresses>();
      case From::kSlots:
        return run.template operator()<Vector, From::kSlots>();
      case From::kInt32:
        return run.template operator()<Vector, From::kInt32>();
      case From::kInt64:
        return run.template operator()<Vector, From::kInt64>();
    }
  };
  switch (job.vector) {
    case 16:
      return with.template operator()<Vector16>();
    case 8:
      return with.template operator()<Vector8>();
    case 4:
      return with.template operator()<Vector4>();
    default:
      return with.template operator()<Vector1>();
  }
}

}  // namespace rudder::cuda

// The words of Rudder as distinct types: a NodeId is never mistaken for a SlotId.
// Any module may include this header; it includes nothing of Rudder.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace rudder {

// A row's id in the whole graph (node or edge, of one type). Non-negative.
enum class NodeId : std::int64_t {};
// Number of a row in the buffer's arena, in [0, capacity).
enum class SlotId : std::int32_t {};
// Number of a partition, in [0, partitions).
enum class PartId : std::int32_t {};

// Dense number of a *tracked* row: one that is cached, staged, or requested by a
// minibatch of the window. Arrays indexed by RowKey take the place of maps keyed by
// NodeId, so that one hash lookup serves every data structure. Keys are recycled.
using RowKey = std::uint32_t;
inline constexpr RowKey kNoRow = std::numeric_limits<RowKey>::max();

// Number of a minibatch in the order of execution, from 1.
using Seq = std::uint64_t;
// "Not used again inside the window."
inline constexpr Seq kNoUse = std::numeric_limits<Seq>::max();

inline constexpr SlotId kNoSlot = static_cast<SlotId>(-1);

inline std::int64_t value(NodeId id) { return static_cast<std::int64_t>(id); }
inline std::int32_t value(SlotId slot) { return static_cast<std::int32_t>(slot); }
inline std::int32_t value(PartId part) { return static_cast<std::int32_t>(part); }

}  // namespace rudder

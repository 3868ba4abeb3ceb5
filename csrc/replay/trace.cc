#include "replay/trace.h"

#include <algorithm>
#include <string>

#include "common/error.h"

namespace rudder {

Trace::Trace(std::span<const NodeId> ids, std::span<const std::int64_t> offsets)
    : wide_(ids), offsets_(offsets) {
  check(ids.size());
}

Trace::Trace(std::span<const std::int32_t> ids, std::span<const std::int64_t> offsets)
    : narrow_(ids), offsets_(offsets) {
  check(ids.size());
}

void Trace::check(std::size_t accesses) {
  if (offsets_.empty() || offsets_.front() != 0 || offsets_.back() != static_cast<std::int64_t>(accesses) ||
      !std::is_sorted(offsets_.begin(), offsets_.end()))
    throw Error(ErrorCode::kConfig,
                "offsets of a trace must begin with 0, never decrease and end with the number of ids, " +
                    std::to_string(accesses));
  std::int64_t lowest = 0;
  for (std::size_t access = 0; access < accesses; ++access) {
    lowest = std::min(lowest, value(id(access)));
    id_space_ = std::max(id_space_, value(id(access)) + 1);
  }
  if (lowest < 0) throw Error(ErrorCode::kConfig, "a trace has the negative id " + std::to_string(lowest));
}

std::span<const NodeId> Trace::widened(std::span<const std::int32_t> ids, std::vector<NodeId>& scratch) {
  scratch.resize(ids.size());
  std::transform(ids.begin(), ids.end(), scratch.begin(),
                 [](std::int32_t id) { return static_cast<NodeId>(id); });
  return scratch;
}

}  // namespace rudder

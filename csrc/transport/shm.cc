#include "transport/shm.h"

#include "transport/row_copy.h"

namespace rudder {

Shm::~Shm() { close(); }

void Shm::attach(PartId peer, TableId table, const std::string& segment, std::size_t count,
                 std::size_t row_bytes, std::size_t offset) {
  Segment mapped(segment, offset, table_bytes(count, row_bytes));
  const std::unique_lock lock(mutex_);
  mappings_.insert_or_assign({peer, table}, Mapping{std::move(mapped), count, row_bytes});
}

Transport::Reach Shm::reach_locked(PartId peer, TableId table, std::size_t row_bytes) const {
  if (closed_) return {false, "the shm transport is closed"};
  const auto it = mappings_.find({peer, table});
  if (it == mappings_.end())
    return {false, "partition " + std::to_string(value(peer)) + " has no shard in this host's shared memory"};
  if (it->second.row_bytes != row_bytes)
    return {false, "rows of " + std::to_string(it->second.row_bytes) + " bytes there, " +
                       std::to_string(row_bytes) + " here"};
  return {};
}

Transport::Reach Shm::reach(PartId peer, TableId table, std::size_t row_bytes) const {
  const std::shared_lock lock(mutex_);
  return reach_locked(peer, table, row_bytes);
}

void Shm::submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) {
  std::string why;
  {
    const std::shared_lock lock(mutex_);
    for (const Gather& gather : gathers) {
      const Reach way = reach_locked(gather.peer, gather.table, gather.row_bytes);
      if (!way.possible) {
        why = way.why_not;
        break;
      }
      const Mapping& mapping = mappings_.at({gather.peer, gather.table});
      if (why = copy_rows(mapping.segment.data(), mapping.count, gather); !why.empty()) break;
    }
  }
  sink->complete({ticket, why.empty() ? CompletionStatus::kDone : CompletionStatus::kFailed, std::move(why)});
}

void Shm::close() {
  const std::unique_lock lock(mutex_);
  closed_ = true;
  mappings_.clear();
}

}  // namespace rudder

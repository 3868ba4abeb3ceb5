#include "transport/shm.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <limits>

#include "common/error.h"
#include "transport/row_copy.h"

namespace rudder {

Shm::~Shm() { close(); }

void Shm::attach(PartId peer, TableId table, const std::string& segment, std::size_t count,
                 std::size_t row_bytes, std::size_t offset) {
  if (row_bytes == 0) throw Error(ErrorCode::kConfig, "rows must have at least one byte");
  if (count > (std::numeric_limits<std::size_t>::max() - offset) / row_bytes)
    throw Error(ErrorCode::kConfig, "rows x row size overflows");
  const std::string path = segment.starts_with('/') ? segment : "/" + segment;
  const std::size_t wanted = offset + count * row_bytes;
  const int fd = shm_open(path.c_str(), O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0)
    throw Error(ErrorCode::kTransport, "shared memory " + path + " of partition " +
                                           std::to_string(value(peer)) +
                                           " cannot be opened: " + std::strerror(errno));
  struct stat info{};
  const bool known = fstat(fd, &info) == 0;
  void* base = MAP_FAILED;
  if (known && static_cast<std::size_t>(info.st_size) >= wanted && wanted > 0)
    base = mmap(nullptr, wanted, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (known && static_cast<std::size_t>(info.st_size) < wanted)
    throw Error(ErrorCode::kTransport, "shared memory " + path + " has " + std::to_string(info.st_size) +
                                           " bytes, " + std::to_string(wanted) +
                                           " expected: another table, or truncated");
  if (base == MAP_FAILED && wanted > 0)
    throw Error(ErrorCode::kTransport,
                "shared memory " + path + " cannot be mapped: " + std::strerror(error));
  const auto* bytes = wanted > 0 ? static_cast<const std::byte*>(base) : nullptr;
  const std::unique_lock lock(mutex_);
  if (const auto it = mappings_.find({peer, table}); it != mappings_.end() && it->second.base != nullptr)
    munmap(const_cast<std::byte*>(it->second.base), it->second.mapped);
  mappings_[{peer, table}] = Mapping{bytes, wanted, bytes + offset, count, row_bytes};
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
      if (why = copy_rows(mapping.rows, mapping.count, gather); !why.empty()) break;
    }
  }
  sink->complete({ticket, why.empty() ? CompletionStatus::kDone : CompletionStatus::kFailed, std::move(why)});
}

void Shm::close() {
  const std::unique_lock lock(mutex_);
  closed_ = true;
  for (const auto& [key, mapping] : mappings_)
    if (mapping.base != nullptr) munmap(const_cast<std::byte*>(mapping.base), mapping.mapped);
  mappings_.clear();
}

}  // namespace rudder

#include "memory/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "common/error.h"

namespace rudder {

Segment::Segment(const std::string& name, std::size_t offset, std::size_t bytes) : offset_(offset) {
  if (bytes > std::numeric_limits<std::size_t>::max() - offset)
    throw Error(ErrorCode::kConfig, "offset + size overflows");
  const std::string path = name.starts_with('/') ? name : "/" + name;
  const std::size_t wanted = offset + bytes;
  const int fd = shm_open(path.c_str(), O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0)
    throw Error(ErrorCode::kTransport,
                "shared memory " + path + " cannot be opened: " + std::strerror(errno));
  struct stat info{};
  const bool known = fstat(fd, &info) == 0;
  const bool enough = known && static_cast<std::size_t>(info.st_size) >= wanted;
  void* base = MAP_FAILED;
  if (enough && wanted > 0) base = mmap(nullptr, wanted, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (known && !enough)
    throw Error(ErrorCode::kTransport, "shared memory " + path + " has " + std::to_string(info.st_size) +
                                           " bytes, " + std::to_string(wanted) +
                                           " expected: another table, or truncated");
  if (wanted == 0) return;
  if (base == MAP_FAILED)
    throw Error(ErrorCode::kTransport,
                "shared memory " + path + " cannot be mapped: " + std::strerror(error));
  base_ = static_cast<std::byte*>(base);
  mapped_ = wanted;
}

Segment::~Segment() {
  if (base_ != nullptr) munmap(base_, mapped_);
}

std::size_t table_bytes(std::size_t count, std::size_t row_bytes) {
  if (row_bytes == 0) throw Error(ErrorCode::kConfig, "rows must have at least one byte");
  if (count > std::numeric_limits<std::size_t>::max() / row_bytes)
    throw Error(ErrorCode::kConfig, "rows x row size overflows");
  return count * row_bytes;
}

}  // namespace rudder

// A POSIX shared-memory segment of another process, mapped and only read. Move-only; unmaps itself.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

namespace rudder {

class Segment {
 public:
  Segment() = default;
  // Maps `bytes` from byte `offset` on. `name` is as shm_open spells it; a missing leading slash is added.
  // Throws Error(kTransport) where the segment is absent, not ours to read, or shorter than that.
  Segment(const std::string& name, std::size_t offset, std::size_t bytes);
  Segment(Segment&& other) noexcept { swap(other); }
  Segment& operator=(Segment&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Segment();

  const std::byte* data() const { return base_ == nullptr ? nullptr : base_ + offset_; }

 private:
  void swap(Segment& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(mapped_, other.mapped_);
    std::swap(offset_, other.offset_);
  }

  std::byte* base_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t offset_ = 0;
};

// count x row_bytes. Throws Error(kConfig) for rows of no bytes, and where the product does not fit.
std::size_t table_bytes(std::size_t count, std::size_t row_bytes);

}  // namespace rudder

// What page-locks memory for a GPU: an interface, so that arenas know of none. `cuda::Device` is one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace rudder {

class Pinner {
 public:
  virtual ~Pinner() = default;

  // True where [memory, memory + bytes) is pinned and mapped for the GPU now; else false, with the reason in
  // `refusal`. read_only: the process may not write to it.
  virtual bool pin(void* memory, std::size_t bytes, bool read_only, std::string& refusal) = 0;
  virtual void unpin(void* memory) noexcept = 0;
};

// Memory of somebody else, pinned while this lives.
class PinnedRange {
 public:
  PinnedRange() = default;
  // A null pinner, or no bytes: nothing is done. Tries it as memory that may be written to first.
  PinnedRange(std::shared_ptr<Pinner> pinner, const std::byte* memory, std::size_t bytes);
  ~PinnedRange() {
    if (pinner_) pinner_->unpin(memory_);
  }
  PinnedRange(const PinnedRange&) = delete;
  PinnedRange& operator=(const PinnedRange&) = delete;

  // Why it is not pinned; empty where it is, or was not asked for.
  const std::string& refusal() const { return refusal_; }

 private:
  std::shared_ptr<Pinner> pinner_;
  void* memory_ = nullptr;
  std::string refusal_;
};

}  // namespace rudder

// What page-locks memory for a GPU: an interface, so that arenas know of none. `cuda::Device` is one.
#pragma once

#include <cstddef>
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

}  // namespace rudder

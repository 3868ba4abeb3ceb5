// Device memory of the simulated GPU that a test may look into, and that does not count as allocated.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/simulated.h"

namespace rudder::cuda {

class Lent {
 public:
  Lent() = default;
  Lent(const std::shared_ptr<Simulated>& gpu, std::size_t bytes, std::byte value = {}) {
    assign(gpu, bytes, value);
  }
  Lent(Lent&&) = default;
  Lent& operator=(Lent&&) = delete;
  ~Lent() {
    if (gpu_) gpu_->take_back(bytes_.data());
  }

  // Other memory, of that size; without a GPU it is plain memory.
  void assign(std::shared_ptr<Simulated> gpu, std::size_t bytes, std::byte value = {}) {
    if (gpu_) std::exchange(gpu_, nullptr)->take_back(bytes_.data());
    bytes_.assign(bytes, value);
    if (bytes == 0 || !gpu) return;
    gpu_ = std::move(gpu);
    gpu_->lend(bytes_.data(), bytes);
  }
  std::byte* data() { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::shared_ptr<Simulated> gpu_;
  std::vector<std::byte> bytes_;
};

}  // namespace rudder::cuda

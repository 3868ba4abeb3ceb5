#include "memory/pin.h"

#include <utility>

namespace rudder {

PinnedRange::PinnedRange(std::shared_ptr<Pinner> pinner, const std::byte* memory, std::size_t bytes)
    : memory_(const_cast<std::byte*>(memory)) {
  if (pinner == nullptr || bytes == 0) return;
  std::string read_only_refusal;
  if (pinner->pin(memory_, bytes, false, refusal_) || pinner->pin(memory_, bytes, true, read_only_refusal)) {
    refusal_.clear();
    pinner_ = std::move(pinner);
  } else if (read_only_refusal != refusal_) {
    refusal_ += "; read-only: " + read_only_refusal;
  }
}

}  // namespace rudder

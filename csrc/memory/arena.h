// A block of memory for feature rows: huge pages where the system has them reserved, else transparent huge
// pages, else plain ones; pinned for a GPU where there is one to pin it for. It says what it got: a machine
// without huge pages, or that refuses to pin, is a capability, not an error. Move-only; frees itself.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "memory/pin.h"

namespace rudder {

class Arena {
 public:
  enum class Pages { kHuge, kTransparent, kPlain };
  struct Options {
    bool huge = true;
    bool reserved = true;  // also huge pages that the system has reserved, which can't be given back
    std::shared_ptr<Pinner> pinner{};  // null: not pinned
  };

  Arena() = default;
  // Throws Error(kOutOfMemory) where even plain pages can't be had. 0 bytes give an empty arena.
  Arena(std::size_t bytes, Options options);
  explicit Arena(std::size_t bytes);
  Arena(Arena&& other) noexcept { swap(other); }
  Arena& operator=(Arena&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Arena();

  // Gives the pages from byte `offset` to the end back to the system; they read as zero when touched again.
  // Returns the bytes given back: none where they are pinned or reserved huge pages.
  std::size_t give_back_from(std::size_t offset);
  // Can pages be given back?
  bool returnable() const { return !pinned() && pages_ != Pages::kHuge; }

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }    // as asked for
  std::size_t mapped() const { return mapped_; }  // rounded up to whole pages
  Pages pages() const { return pages_; }
  bool pinned() const { return pinner_ != nullptr; }
  // Why it is not pinned; empty where it is.
  const std::string& pin_refusal() const { return pin_refusal_; }

 private:
  void swap(Arena& other) noexcept;

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t mapped_ = 0;
  Pages pages_ = Pages::kPlain;
  std::shared_ptr<Pinner> pinner_;  // that pinned it
  std::string pin_refusal_;
};

std::string_view to_string(Arena::Pages pages);

}  // namespace rudder

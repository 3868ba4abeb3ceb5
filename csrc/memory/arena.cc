#include "memory/arena.h"

#include <sys/mman.h>

#include <utility>

#include "common/error.h"

namespace rudder {
namespace {

// The size of a huge page on x86-64 and on arm64 with 4 KiB pages. Where it differs the mapping is only
// rounded up more than needed.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kPlainPage = 4096;

std::size_t round_up(std::size_t bytes, std::size_t page) { return (bytes + page - 1) / page * page; }

void* map(std::size_t bytes, int flags) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

Arena::Arena(std::size_t bytes, Options options) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = nullptr;
  // Less than one huge page is not worth one.
  const bool huge = options.huge && bytes >= kHugePage;
  if (huge) {
    mapped_ = round_up(bytes, kHugePage);
    if (options.reserved) memory = map(mapped_, MAP_HUGETLB);
    pages_ = Pages::kHuge;
  }
  if (memory == nullptr) {
    mapped_ = round_up(bytes, huge ? kHugePage : kPlainPage);
    memory = map(mapped_, 0);
    if (memory == nullptr)
      throw Error(ErrorCode::kOutOfMemory,
                  "no memory for an arena of " + std::to_string(bytes) + " bytes: lower the capacity");
    pages_ = huge && madvise(memory, mapped_, MADV_HUGEPAGE) == 0 ? Pages::kTransparent : Pages::kPlain;
  }
  data_ = static_cast<std::byte*>(memory);
  if (options.pinner == nullptr)
    pin_refusal_ = "no GPU asked for it";
  else if (options.pinner->pin(data_, mapped_, false, pin_refusal_))
    pinner_ = std::move(options.pinner);
}

Arena::Arena(std::size_t bytes) : Arena(bytes, Options{}) {}

Arena::~Arena() {
  if (data_ == nullptr) return;
  if (pinner_) pinner_->unpin(data_);
  munmap(data_, mapped_);
}

std::size_t Arena::give_back_from(std::size_t offset) {
  const std::size_t begin = round_up(offset, kPlainPage);
  if (!returnable() || begin >= mapped_) return 0;
  return madvise(data_ + begin, mapped_ - begin, MADV_DONTNEED) == 0 ? mapped_ - begin : 0;
}

void Arena::swap(Arena& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  std::swap(pages_, other.pages_);
  std::swap(pinner_, other.pinner_);
  std::swap(pin_refusal_, other.pin_refusal_);
}

std::string_view to_string(Arena::Pages pages) {
  switch (pages) {
    case Arena::Pages::kHuge:
      return "huge";
    case Arena::Pages::kTransparent:
      return "transparent-huge";
    case Arena::Pages::kPlain:
      break;
  }
  return "plain";
}

}  // namespace rudder

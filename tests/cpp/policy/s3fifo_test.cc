#include "policy/s3fifo.h"

#include <gtest/gtest.h>

#include "policy/reference.h"

namespace rudder {
namespace {

using namespace rudder::testing;

struct S3FifoReference {
  explicit S3FifoReference(std::size_t rows)
      : capacity(rows), small_share(std::max<std::size_t>(1, rows / 10)), ghost_share(rows - small_share) {}
  std::size_t capacity, small_share, ghost_share;
  Ids small, main, ghost;
  std::map<std::int64_t, int> count;
  bool contains(std::int64_t id) const { return has(small, id) || has(main, id); }
  void touch(std::int64_t id) { count[id] = std::min(3, count[id] + 1); }
  void offer(std::int64_t id) {
    const bool known = has(ghost, id);
    if (known) take(ghost, id);
    while (small.size() + main.size() >= capacity) evict();
    count[id] = 0;
    (known ? main : small).push_back(id);
  }
  void evict() {
    if (small.size() >= small_share || main.empty()) {
      const std::int64_t id = pop_front(small);
      if (count[id] > 1) {
        count[id] = 0;
        main.push_back(id);
      } else if (ghost_share > 0) {
        if (ghost.size() == ghost_share) ghost.pop_front();
        ghost.push_back(id);
      }
    } else {
      const std::int64_t id = pop_front(main);
      if (count[id]-- > 0) main.push_back(id);
    }
  }
};

TEST(S3Fifo, EqualsTheReference) { expect_same_buffers<S3FifoReference>("s3fifo"); }

}  // namespace
}  // namespace rudder

#include "policy/fifo.h"

#include <gtest/gtest.h>

#include "policy/reference.h"

namespace rudder {
namespace {

using namespace rudder::testing;

struct FifoReference {
  std::size_t capacity;
  Ids queue;
  bool contains(std::int64_t id) const { return has(queue, id); }
  void touch(std::int64_t) {}
  void offer(std::int64_t id) {
    if (queue.size() == capacity) queue.pop_front();
    queue.push_back(id);
  }
};

TEST(Fifo, EqualsTheReference) { expect_same_buffers<FifoReference>("fifo"); }

}  // namespace
}  // namespace rudder

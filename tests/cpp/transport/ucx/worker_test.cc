#include "transport/ucx/worker.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <iterator>

#include "common/error.h"

namespace rudder::ucx {
namespace {

std::size_t descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST(Worker, OneThatCannotBeOpenedLeavesNoDescriptor) {
  EXPECT_THROW(Worker({"no-such-device0", "tcp"}), Error);  // what UCX keeps from its first time on
  const std::size_t before = descriptors();
  for (int i = 0; i < 5; ++i) EXPECT_THROW(Worker({"no-such-device0", "tcp"}), Error);
  EXPECT_EQ(descriptors(), before);
}

}  // namespace
}  // namespace rudder::ucx

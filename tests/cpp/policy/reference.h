// Policies once more, as a reader of their papers would write them down: deques of ids, searched from end to
// end. Slow and short, to hold the real ones against.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>

#include "policy/harness.h"

namespace rudder::testing {

using Ids = std::deque<std::int64_t>;

inline bool has(const Ids& ids, std::int64_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}
inline void take(Ids& ids, std::int64_t id) { ids.erase(std::find(ids.begin(), ids.end(), id)); }
inline std::int64_t pop_front(Ids& ids) {
  const std::int64_t id = ids.front();
  ids.pop_front();
  return id;
}

// `Reference` has contains(id), touch(id), offer(id) and is made from a capacity.
template <typename Reference>
void expect_same_buffers(const PolicyConfig& config, std::int64_t ids, std::size_t rows, int minibatches,
                         std::uint32_t seed) {
  SCOPED_TRACE("capacity " + std::to_string(config.capacity) + ", seed " + std::to_string(seed));
  PolicyHarness buffer(config);
  Reference reference(config.capacity);
  Traffic traffic(seed, ids, rows);
  for (int step = 0; step < minibatches; ++step) {
    const auto batch = traffic.minibatch();
    std::vector<std::int64_t> missed;
    for (const std::int64_t id : batch)
      if (reference.contains(id))
        reference.touch(id);
      else
        missed.push_back(id);
    for (const std::int64_t id : missed) reference.offer(id);
    buffer.step(batch);
    for (std::int64_t id = 0; id < ids; ++id)
      ASSERT_EQ(buffer.is_cached(id), reference.contains(id)) << "id " << id << " after minibatch " << step;
  }
}

// Small and large minibatches, buffers smaller than either and larger than both.
template <typename Reference>
void expect_same_buffers(const std::string& policy) {
  std::uint32_t seed = 1;
  for (const std::size_t capacity : {1, 2, 5, 12, 30, 100})
    for (const std::size_t rows : {1, 4, 25}) {
      expect_same_buffers<Reference>({.name = policy, .capacity = capacity}, 60, rows, 300, seed++);
      if (::testing::Test::HasFailure()) return;
    }
}

}  // namespace rudder::testing

#include "policy/wtinylfu.h"

#include <gtest/gtest.h>

#include "policy/frequency_sketch.h"
#include "policy/reference.h"

namespace rudder {
namespace {

using namespace rudder::testing;

// Counts are exact here. With room for 32 counters a row, the sketch of so few ids hardly ever differs.
struct WTinyLfuReference {
  explicit WTinyLfuReference(std::size_t rows)
      : capacity(rows),
        window_share(std::max<std::size_t>(1, rows / 100)),
        protected_share((rows - window_share) * 80 / 100) {}
  std::size_t capacity, window_share, protected_share;
  Ids window, probation, kept;  // longest not requested first
  std::map<std::int64_t, int> count;
  std::size_t counted = 0;
  bool contains(std::int64_t id) const { return has(window, id) || has(probation, id) || has(kept, id); }
  void add(std::int64_t id) {
    count[id] = std::min(15, count[id] + 1);
    if (++counted < 10 * capacity) return;
    for (auto& [other, times] : count) times /= 2;
    counted = 0;
  }
  void touch(std::int64_t id) {
    add(id);
    if (has(window, id)) {
      take(window, id);
      window.push_back(id);
      return;
    }
    take(has(kept, id) ? kept : probation, id);
    kept.push_back(id);
    if (kept.size() > protected_share) probation.push_back(pop_front(kept));
  }
  void offer(std::int64_t id) {
    add(id);
    window.push_back(id);
    if (window.size() <= window_share) return;
    const std::int64_t candidate = pop_front(window);
    if (window.size() + probation.size() + kept.size() < capacity) {
      probation.push_back(candidate);
      return;
    }
    Ids& main = probation.empty() ? kept : probation;
    if (main.empty() || count[candidate] <= count[main.front()]) return;
    main.pop_front();
    probation.push_back(candidate);
  }
};

TEST(WTinyLfu, EqualsTheReference) { expect_same_buffers<WTinyLfuReference>("wtinylfu"); }

TEST(FrequencySketch, CountsNeverFallShort) {
  FrequencySketch sketch(1000);
  for (std::int64_t id = 0; id < 500; ++id)
    for (std::int64_t times = 0; times < id % 16; ++times) sketch.add(NodeId{id});
  int over = 0;
  for (std::int64_t id = 0; id < 500; ++id) {
    EXPECT_GE(sketch.count(NodeId{id}), id % 16);
    over += sketch.count(NodeId{id}) > id % 16;
  }
  EXPECT_LE(over, 5);
}

TEST(FrequencySketch, AgesToHalf) {
  FrequencySketch sketch(1);
  for (int i = 0; i < 9; ++i) sketch.add(NodeId{7});
  EXPECT_EQ(sketch.count(NodeId{7}), 9);
  sketch.add(NodeId{7});  // the tenth ends the sample
  EXPECT_EQ(sketch.count(NodeId{7}), 5);
}

}  // namespace
}  // namespace rudder

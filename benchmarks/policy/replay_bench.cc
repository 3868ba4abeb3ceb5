// Accesses per second of replay (id index + window + policy, one thread), on skewed minibatches of 10,000
// rows out of a million ids with a buffer of 100,000. The rows moved are checked in each run: LRU and SIEVE
// against plain implementations over a hash map and a list, lookahead against MIN.
//
//   rudder_benchmarks --benchmark_filter=Replay
//
// Last result (2 busy cores): BM_ReplayLru 22.6, BM_ReplaySieve 28.1, BM_ReplayLookahead 10.3 M items/s.
#include <benchmark/benchmark.h>

#include <cmath>
#include <list>
#include <random>
#include <unordered_map>

#include "replay/min.h"
#include "replay/replay.h"

namespace rudder {
namespace {

constexpr std::int32_t kIds = 1'000'000;
constexpr std::size_t kRows = 10'000;
constexpr int kMinibatches = 300;
constexpr std::size_t kCapacity = 100'000;

struct Workload {
  Workload() {
    std::mt19937_64 random(42);
    std::uniform_real_distribution<double> uniform(0, 1);
    std::vector<int> drawn_by(kIds, -1);
    for (int t = 0; t < kMinibatches; ++t) {
      for (std::size_t row = 0; row < kRows;) {
        // Density falls with the 0.6th power of the rank; ranks are scattered over the id space.
        const auto rank = static_cast<std::int64_t>(std::pow(uniform(random), 2.5) * kIds);
        const auto id = static_cast<std::int32_t>(rank * 777'767 % kIds);
        if (std::exchange(drawn_by[static_cast<std::size_t>(id)], t) == t) continue;
        ids.push_back(id);
        ++row;
      }
      offsets.push_back(static_cast<std::int64_t>(ids.size()));
    }
    std::vector<float> worth(kIds);
    for (const std::int32_t id : ids) worth[static_cast<std::size_t>(id)] += 1;
    prior = Prior::from_worth(worth);
  }

  Trace trace() const { return {std::span<const std::int32_t>(ids), offsets}; }

  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> offsets{0};
  std::shared_ptr<const Prior> prior;
};

const Workload& workload() {
  static const Workload made;
  return made;
}

// LRU or SIEVE by the book: oldest row in front; `marked` is SIEVE's.
struct Entry {
  std::int32_t id;
  bool marked;
};
std::uint64_t plain_rows(bool sieve) {
  const Workload& work = workload();
  std::list<Entry> order;
  std::unordered_map<std::int32_t, std::list<Entry>::iterator> at;
  auto hand = order.end();
  std::uint64_t moved = 0;
  std::vector<std::int32_t> missed;
  for (std::size_t t = 0; t + 1 < work.offsets.size(); ++t) {
    missed.clear();
    for (std::int64_t i = work.offsets[t]; i < work.offsets[t + 1]; ++i) {
      const std::int32_t id = work.ids[static_cast<std::size_t>(i)];
      const auto found = at.find(id);
      if (found == at.end())
        missed.push_back(id);
      else if (sieve)
        found->second->marked = true;
      else
        order.splice(order.end(), order, found->second);
    }
    for (const std::int32_t id : missed) {
      if (order.size() == kCapacity) {
        auto victim = order.begin();
        if (sieve) {
          if (hand == order.end()) hand = order.begin();
          for (; hand->marked; hand = std::next(hand) == order.end() ? order.begin() : std::next(hand))
            hand->marked = false;
          victim = hand++;
        }
        at.erase(victim->id);
        order.erase(victim);
      }
      at[id] = order.insert(order.end(), Entry{id, false});
      // A hand that had passed the newest row begins again with the oldest, not with the row just entered.
    }
    moved += missed.size();
  }
  return moved;
}

void run(benchmark::State& state, const ReplayConfig& config, std::uint64_t least, std::uint64_t most) {
  const Trace trace = workload().trace();
  for (auto _ : state) {
    const Totals result = replay(trace, config);
    if (result.rows_moved < least || result.rows_moved > most) {
      state.SkipWithError(("moved " + std::to_string(result.rows_moved) + " rows, not " +
                           std::to_string(least) + " to " + std::to_string(most))
                              .c_str());
      return;
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(trace.accesses()));
}

void BM_ReplayLru(benchmark::State& state) {
  static const std::uint64_t rows = plain_rows(false);
  run(state, {.policy = {.name = "lru", .capacity = kCapacity}}, rows, rows);
}
BENCHMARK(BM_ReplayLru)->Unit(benchmark::kMillisecond);

void BM_ReplaySieve(benchmark::State& state) {
  static const std::uint64_t rows = plain_rows(true);
  run(state, {.policy = {.name = "sieve", .capacity = kCapacity}}, rows, rows);
}
BENCHMARK(BM_ReplaySieve)->Unit(benchmark::kMillisecond);

void BM_ReplayLookahead(benchmark::State& state) {
  static const Trace trace = workload().trace();
  static const std::uint64_t least = OfflineOptimum(trace).min_rows(kCapacity);
  run(state,
      {.policy = {.name = "lookahead", .capacity = kCapacity, .prior = workload().prior},
       .window = {.rows = 4 * kCapacity}},
      least, least + least / 20);
}
BENCHMARK(BM_ReplayLookahead)->Unit(benchmark::kMillisecond);

void BM_OfflineOptimum(benchmark::State& state) {
  const Trace trace = workload().trace();
  for (auto _ : state) {
    const std::uint64_t rows = OfflineOptimum(trace).min_rows(kCapacity);
    if (rows == 0 || rows > trace.accesses()) return state.SkipWithError("MIN is out of bounds");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(trace.accesses()));
}
BENCHMARK(BM_OfflineOptimum)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace rudder

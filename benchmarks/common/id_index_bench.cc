// Slot lookup: 100k random ids in an index of 2M resident rows. Goals: hash <= 15 ns/id, direct table <= 5
// ns/id. `per_id` is in seconds. Run: make bench FILTER=IdIndex
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "common/id_index.h"

namespace rudder {
namespace {

constexpr std::size_t kResident = 2'000'000, kIds = 100'000;
constexpr std::int64_t kSpace = 40'000'000;

void lookup(benchmark::State& state, IdIndex::Kind kind) {
  std::mt19937_64 random(1);
  IdIndex index(kSpace, kind);
  std::vector<std::int64_t> resident;
  while (resident.size() < kResident) {
    const auto id = static_cast<std::int64_t>(random() % kSpace);
    if (index.find(NodeId{id}) != kNoRow) continue;
    index.insert(NodeId{id}, static_cast<RowKey>(resident.size()));
    resident.push_back(id);
  }
  // Fresh ids in each iteration, so that no cache holds last time's lines: half of them resident.
  std::vector<NodeId> ids(kIds);
  std::vector<RowKey> keys(kIds), expected(kIds);
  for (auto _ : state) {
    state.PauseTiming();
    for (std::size_t i = 0; i < kIds; ++i) {
      if (random() % 2 == 0) {
        expected[i] = static_cast<RowKey>(random() % kResident);
        ids[i] = NodeId{resident[expected[i]]};
      } else {
        ids[i] = NodeId{static_cast<std::int64_t>(random() % kSpace)};
        expected[i] = index.find(ids[i]);
      }
    }
    std::shuffle(ids.begin(), ids.end(), std::mt19937_64(random()));
    state.ResumeTiming();
    index.find(ids, keys);
    benchmark::DoNotOptimize(keys.data());
  }
  for (std::size_t i = 0; i < kIds; ++i)
    if (keys[i] != index.find(ids[i])) return state.SkipWithError("a key differs from the one-by-one lookup");
  state.counters["per_id"] = benchmark::Counter(
      static_cast<double>(kIds), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

BENCHMARK_CAPTURE(lookup, IdIndex_hash, IdIndex::Kind::kHash)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(lookup, IdIndex_direct, IdIndex::Kind::kDirect)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace rudder

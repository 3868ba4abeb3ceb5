// Slot lookup: 100k random ids, half of them resident. Goals: hash <= 15 ns/id at 2M resident rows, direct
// table
// <= 5 ns/id. The floor under the direct table is one random access to memory per id: `gather` reads the same
// ids from a plain array of as many 4-byte entries. The argument is the id space: 4 bytes each, so that 1M
// ids fit into a cache and 40M into none. `per_id` is in seconds. Results: docs/results.md. Run: make bench
// FILTER=IdIndex ARGS="--benchmark_repetitions=9 --benchmark_enable_random_interleaving=true"
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "common/id_index.h"
#include "memory/arena.h"

namespace rudder {
namespace {

constexpr std::size_t kMostResident = 2'000'000, kIds = 100'000;
// Of the gather: where it stops paying, see csrc/common/id_index.cc.
constexpr std::size_t kPrefetchAhead = 64;

// The rows that are tracked, and minibatches of ids. Ids are drawn without touching the table under test, and
// anew for each iteration, so that no cache holds their lines but those that it holds by chance.
class Draw {
 public:
  explicit Draw(std::size_t space) : space_(space) {
    std::vector<bool> taken(space);
    while (resident_.size() < std::min(kMostResident, space / 2)) {
      const std::size_t id = random_() % space;
      if (taken[id]) continue;
      taken[id] = true;
      resident_.push_back(NodeId{static_cast<std::int64_t>(id)});
    }
  }
  // By key.
  std::span<const NodeId> resident() const { return resident_; }

  void minibatch(std::span<NodeId> ids) {
    for (NodeId& id : ids)
      id = random_() % 2 == 0 ? resident_[random_() % resident_.size()]
                              : NodeId{static_cast<std::int64_t>(random_() % space_)};
  }

 private:
  std::mt19937_64 random_{1};
  std::size_t space_;
  std::vector<NodeId> resident_;
};

// `find(ids, keys)` is timed; `one(id)` gives the key that it must give.
template <typename Find, typename One>
void measure(benchmark::State& state, Draw& draw, const Find& find, const One& one) {
  std::vector<NodeId> ids(kIds);
  std::vector<RowKey> keys(kIds);
  for (auto _ : state) {
    state.PauseTiming();
    draw.minibatch(ids);
    state.ResumeTiming();
    find(ids, keys);
    benchmark::DoNotOptimize(keys.data());
    benchmark::ClobberMemory();
  }
  for (std::size_t i = 0; i < kIds; ++i)
    if (keys[i] != one(ids[i])) return state.SkipWithError("a key differs from the one-by-one lookup");
  state.counters["per_id"] = benchmark::Counter(
      static_cast<double>(kIds), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void lookup(benchmark::State& state, IdIndex::Kind kind) {
  Draw draw(static_cast<std::size_t>(state.range(0)));
  IdIndex index(state.range(0), kind);
  for (RowKey key = 0; const NodeId id : draw.resident()) index.insert(id, key++);
  measure(
      state, draw, [&](std::span<const NodeId> ids, std::span<RowKey> keys) { index.find(ids, keys); },
      [&](NodeId id) { return index.find(id); });
}

void gather(benchmark::State& state) {
  const auto space = static_cast<std::size_t>(state.range(0));
  Draw draw(space);
  // An arena: on huge pages, as the index is.
  const Arena arena(space * sizeof(RowKey), {});
  const std::span table(reinterpret_cast<RowKey*>(arena.data()), space);
  std::fill(table.begin(), table.end(), kNoRow);
  for (RowKey key = 0; const NodeId id : draw.resident()) table[static_cast<std::size_t>(value(id))] = key++;
  measure(
      state, draw,
      [&](std::span<const NodeId> ids, std::span<RowKey> keys) {
        const RowKey* from = table.data();
        for (std::size_t i = 0; i < ids.size(); ++i) {
          if (i + kPrefetchAhead < ids.size())
            __builtin_prefetch(from + value(ids[i + kPrefetchAhead]), 0, 2);
          keys[i] = from[value(ids[i])];
        }
      },
      [&](NodeId id) { return table[static_cast<std::size_t>(value(id))]; });
}

void spaces(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1'000'000)->Arg(4'000'000)->Arg(10'000'000)->Arg(40'000'000)->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(lookup, IdIndex_hash, IdIndex::Kind::kHash)->Arg(40'000'000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(lookup, IdIndex_direct, IdIndex::Kind::kDirect)->Apply(spaces);
BENCHMARK(gather)->Name("gather/IdIndex_floor")->Apply(spaces);

}  // namespace
}  // namespace rudder

// Bookkeeping of window and lookahead policy together: foresee + execute, per requested id, against capacity.
// Goal: <= 120 ns/id, flat in capacity. `per_id` is in seconds. Run: make bench FILTER=Ledger
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "ledger/ledger.h"

namespace rudder {
namespace {

// Minibatches of 20k requests, skewed as sampled neighbourhoods are: rank r is requested with probability ~
// 1/r.
std::vector<std::vector<NodeId>> make_trace(std::int64_t space, std::size_t batches) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<std::vector<NodeId>> trace(batches);
  for (auto& batch : trace) {
    batch.resize(20'000);
    for (auto& id : batch) {
      const auto rank =
          static_cast<std::uint64_t>(std::exp(uniform(random) * std::log(static_cast<double>(space))));
      id = NodeId{static_cast<std::int64_t>((rank * 2654435761u) % static_cast<std::uint64_t>(space))};
    }
  }
  return trace;
}

void bookkeeping(benchmark::State& state, IdIndex::Kind kind) {
  const auto capacity = static_cast<std::size_t>(state.range(0));
  // The id space grows with the capacity, so that the buffer always holds a tenth of it; a hash beyond the
  // direct limit.
  const auto space = static_cast<std::int64_t>(capacity) * 10;
  const auto trace = make_trace(space, 64);
  std::vector<float> worth(static_cast<std::size_t>(space));
  std::mt19937 random(3);
  for (auto& w : worth) w = static_cast<float>(random() % 1000);
  Ledger ledger({.id_space = kind == IdIndex::Kind::kHash ? std::int64_t{1} << 40 : space,
                 .policy = {.name = "lookahead", .capacity = capacity, .prior = Prior::from_worth(worth)},
                 .depth = 2});
  constexpr std::size_t kWindow = 16;
  std::size_t next = 0;
  for (; next < kWindow; ++next) ledger.foresee(trace[next % trace.size()]);
  std::size_t requested = 0, accounted = 0;
  for (auto _ : state) {
    ledger.foresee(trace[next++ % trace.size()]);
    const Verdict& verdict = ledger.execute();
    requested += verdict.rows.size();
    accounted += verdict.hits + verdict.merged + verdict.misses;
  }
  if (accounted != requested || ledger.policy().size() > capacity)
    state.SkipWithError("the verdicts do not add up");
  state.counters["per_id"] =
      benchmark::Counter(20'000, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

BENCHMARK_CAPTURE(bookkeeping, Ledger_direct, IdIndex::Kind::kDirect)
    ->RangeMultiplier(8)
    ->Range(4 << 10, 2 << 20)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bookkeeping, Ledger_hash, IdIndex::Kind::kHash)
    ->RangeMultiplier(8)
    ->Range(4 << 10, 2 << 20)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace rudder
